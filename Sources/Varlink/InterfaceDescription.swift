/// The definition of one Varlink interface, in the language that `varlinkctl introspect` shows.
public struct InterfaceDescription: Sendable {
  /// The name, in reversed-domain form.
  public let name: String
  /// The whole definition.
  public let text: String

  /// Makes a definition.
  ///
  /// - Parameters:
  ///   - name: the name, in reversed-domain form.
  ///   - definitions: the `type`, `method` and `error` lines, with comments.
  public init(name: String, definitions: String) {
    self.name = name
    text = "interface \(name)\n\n\(definitions)\n"
  }

  /// The names of the methods that the text defines, without the interface.
  public var methods: [String] {
    text.split(separator: "\n").compactMap { line in
      let words = line.split(maxSplits: 1) { $0 == " " || $0 == "\t" }
      guard words.count == 2, words[0] == "method" else { return nil }
      return String(words[1].prefix { $0.isLetter || $0.isNumber })
    }
  }

  /// The interface that every Varlink service has.
  static let service = InterfaceDescription(
    name: "org.varlink.service",
    definitions: """
      # What this service is, and which interfaces it has
      method GetInfo() -> (
        vendor: string,
        product: string,
        version: string,
        url: string,
        interfaces: []string
      )

      # The definition of one interface
      method GetInterfaceDescription(interface: string) -> (description: string)

      # There is no such interface
      error InterfaceNotFound (interface: string)

      # The interface has no such method
      error MethodNotFound (method: string)

      # Nothing stands behind the method
      error MethodNotImplemented (method: string)

      # A parameter is missing, or has a wrong type or value
      error InvalidParameter (parameter: string)

      # The caller may not do this
      error PermissionDenied ()

      # The method gives more than one reply
      error ExpectedMore ()
      """)
}
