import Linux

/// The name of an image, which is also that of its folder: it cannot be a path, an option or one of the store's own.
public struct ImageName: Sendable, Hashable, CustomStringConvertible {
  /// The most bytes that a name has.
  public static let longest = 64
  /// What the store calls folders that are no images yet, or no more.
  static let partial = ".partial"
  static let removing = ".removing"

  /// The name.
  public let description: String

  /// Takes a name from outside.
  ///
  /// - Parameter text: letters, digits, `.`, `_` and `-`, the first a letter or digit, at most 64.
  /// - Throws: `Failure` of kind `usage`.
  public init(_ text: String) throws(Failure) {
    let bytes = Array(text.utf8)
    let isPlain = { (byte: UInt8) in
      (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
    guard let first = bytes.first, isPlain(first), bytes.count <= Self.longest,
      bytes.allSatisfy({ isPlain($0) || $0 == 45 || $0 == 46 || $0 == 95 }),
      !text.hasSuffix(Self.partial), !text.hasSuffix(Self.removing)
    else {
      throw Failure(
        "take the image name", printable(text, limit: 80), "it is not a name for an image",
        advice: "use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit", kind: .usage)
    }
    description = text
  }
}
