/// A path that begins at the root and holds neither `.` nor `..`, so that its text alone says what is below what.
public struct AbsolutePath: SpecValue, Hashable, Comparable {
  /// The path, with single slashes and none at its end; `/` for the root.
  public let description: String

  /// Takes a path and removes doubled and trailing slashes; nothing is looked up.
  ///
  /// - Parameter text: the path.
  /// - Throws: `SpecError` when the path is relative, has `.` or `..`, control characters, a part over 255 or a whole over
  ///   4095 bytes (`NAME_MAX`, `PATH_MAX`), or ends in white space or a backslash, which unit files cannot express.
  public init(_ text: String) throws(SpecError) {
    let bytes = text.utf8
    guard bytes.first == UInt8(ascii: "/") else { throw SpecError("path", text, "it must begin with \"/\"") }
    guard bytes.count <= 4095 else { throw SpecError("path", text, "allowed are 4095 bytes") }
    guard !bytes.contains(where: \.isControl) else { throw SpecError("path", text, "it has control characters") }
    if let last = bytes.last, last.isSpace || last == .backslash {
      throw SpecError("path", text, "it must not end in white space or a backslash")
    }
    let parts = bytes.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
    guard !parts.contains("."), !parts.contains("..") else {
      throw SpecError("path", text, "it must be written without \".\" and \"..\"")
    }
    guard parts.allSatisfy({ $0.utf8.count <= 255 }) else {
      throw SpecError("path", text, "a part of it is longer than 255 bytes")
    }
    description = "/" + parts.joined(separator: "/")
  }

  /// Whether it is `/`.
  public var isRoot: Bool { description == "/" }

  /// Whether the paths have the same bytes; Unicode's canonical equivalence does not hold for file names.
  public static func == (left: Self, right: Self) -> Bool {
    left.description.utf8.elementsEqual(right.description.utf8)
  }

  /// Feeds the same bytes that `==` compares.
  public func hash(into hasher: inout Hasher) {
    for byte in description.utf8 { hasher.combine(byte) }
  }

  /// Orders a folder before everything below it, and otherwise by the bytes of the parts.
  public static func < (left: Self, right: Self) -> Bool {
    // The slash sorts as the lowest byte, so that /a/b comes before /a-b and next to its parent.
    left.description.utf8.lazy.map { $0 == 0x2f ? 0 : $0 }
      .lexicographicallyPrecedes(right.description.utf8.lazy.map { $0 == 0x2f ? 0 : $0 })
  }
}
