// One rule for everything that becomes a host name, a file name and a bus object path, so that none can escape there.

/// What names may be made of, for messages.
private let nameRule =
  "allowed are 1 to 64 letters, digits, \"-\", \"_\" and \".\", neither \"-\" nor \".\" at the start or end of a part"

/// Throws unless systemd-machined would take the text as the name of a machine.
private func checkName(_ text: String, _ subject: String) throws(SpecError) {
  let bytes = text.utf8
  guard (1...64).contains(bytes.count) else { throw SpecError(subject, text, nameRule) }
  for part in bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
    let dash = UInt8(ascii: "-")
    guard let first = part.first, let last = part.last, first != dash, last != dash,
      part.allSatisfy({ $0.isLetter || $0.isDigit || $0 == dash || $0 == UInt8(ascii: "_") })
    else { throw SpecError(subject, text, nameRule) }
  }
}

/// The name of a machine, which also names its folder, its sockets and its cgroup.
public struct MachineName: SpecValue, Hashable, Comparable {
  /// The name: 1 to 64 bytes of letters, digits, `-`, `_` and `.`.
  public let description: String

  /// Takes a name by the rules of `systemd-machined`: like a host name, no empty part, no `-` at a part's ends.
  ///
  /// - Parameter text: the name.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    try checkName(text, "machine name")
    description = text
  }

  /// Orders names by their bytes.
  public static func < (left: Self, right: Self) -> Bool { left.description < right.description }
}

/// The name of an image, which also names its folder in the store.
public struct ImageName: SpecValue, Hashable, Comparable {
  /// What the store calls folders that are no images yet, or no more.
  static let reserved = [".partial", ".removing"]

  /// The name: 1 to 64 bytes of letters, digits, `-`, `_` and `.`.
  public let description: String

  /// Takes a name by the rules for names of machines.
  ///
  /// - Parameter text: the name.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    try checkName(text, "image name")
    guard !Self.reserved.contains(where: text.hasSuffix) else {
      throw SpecError("image name", text, "it may not end in \(Self.reserved.joined(separator: " or "))")
    }
    description = text
  }

  /// Orders names by their bytes.
  public static func < (left: Self, right: Self) -> Bool { left.description < right.description }
}

/// A host name as `sethostname(2)` takes it.
public struct HostName: SpecValue, Hashable, Comparable {
  /// The name: 1 to 64 bytes of letters, digits, `-`, `_` and `.`.
  public let description: String

  /// Takes a host name by the rules for names of machines; 64 bytes is the kernel's limit too.
  ///
  /// - Parameter text: the name.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    try checkName(text, "host name")
    description = text
  }

  /// A machine's name is a host name as it stands.
  public init(_ name: MachineName) { description = name.description }

  /// Orders names by their bytes.
  public static func < (left: Self, right: Self) -> Bool { left.description < right.description }
}
