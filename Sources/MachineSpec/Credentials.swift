/// The name of a credential, by systemd's rules: a file name of printable ASCII without `:`.
public struct CredentialName: SpecValue, Hashable, Comparable {
  /// The name, 1 to 255 bytes.
  public let description: String

  /// Takes a name.
  ///
  /// - Parameter text: the name.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let bytes = text.utf8
    guard (1...255).contains(bytes.count), text != ".", text != "..", bytes.first != 0x20, bytes.last != 0x20,
      bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") && $0 != .colon })
    else {
      throw SpecError(
        "credential name", text, "allowed are 1 to 255 printable ASCII characters without \"/\" and \":\"")
    }
    description = text
  }

  /// Orders names by their bytes.
  public static func < (left: Self, right: Self) -> Bool { left.description < right.description }
}

/// `LoadCredential=`: a credential read from a file of the host.
public struct LoadedCredential: SpecValue, Hashable {
  /// Its name in `$CREDENTIALS_DIRECTORY`.
  public let name: CredentialName
  /// The file of the host.
  public let path: AbsolutePath

  /// Takes a credential.
  ///
  /// - Parameters:
  ///   - name: its name.
  ///   - path: the file of the host.
  public init(name: CredentialName, path: AbsolutePath) {
    self.name = name
    self.path = path
  }

  /// Takes `NAME:PATH`.
  ///
  /// - Parameter text: the credential.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    guard let (name, path) = text.cut(.colon) else { throw SpecError("credential", text, "write NAME:PATH") }
    try self.init(name: CredentialName(name), path: AbsolutePath(path))
  }

  /// `NAME:PATH`.
  public var description: String { "\(name):\(path)" }
}

/// `SetCredential=`: a credential written out in the spec.
public struct LiteralCredential: SpecValue, Hashable {
  /// Its name in `$CREDENTIALS_DIRECTORY`.
  public let name: CredentialName
  /// Its bytes, NUL included.
  public let value: [UInt8]

  /// Takes a credential.
  ///
  /// - Parameters:
  ///   - name: its name.
  ///   - value: its bytes.
  public init(name: CredentialName, value: [UInt8]) {
    self.name = name
    self.value = value
  }

  /// Takes `NAME:VALUE` with C-style escapes in the value.
  ///
  /// - Parameter text: the credential.
  /// - Throws: `SpecError` for a bad name or escape; it shows the name only, as the value may be a secret.
  public init(_ text: String) throws(SpecError) {
    guard let (name, value) = text.cut(.colon) else { throw SpecError("credential", "(hidden)", "write NAME:VALUE") }
    self.name = try CredentialName(name)
    do {
      self.value = try unescapeBytes(value, "credential")
    } catch {
      throw SpecError("credential", name + ":(hidden)", error.reason)
    }
  }

  /// `NAME:VALUE` with C-style escapes.
  public var description: String { "\(name):" + escapeBytes(value) }
}
