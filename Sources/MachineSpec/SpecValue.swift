/// A value that has one textual form in a spec: parsing its description gives an equal value.
public protocol SpecValue: Equatable, Sendable, CustomStringConvertible {
  /// Parses the text of one value.
  ///
  /// - Parameter text: the value, without white space around it.
  /// - Throws: `SpecError` that says what is allowed.
  init(_ text: String) throws(SpecError)
}

/// A value out of a fixed list of words.
public protocol SpecKeyword: SpecValue, CaseIterable, RawRepresentable where RawValue == String {}

extension SpecKeyword {
  /// Takes one of the words, spelt exactly.
  ///
  /// - Parameter text: the word.
  /// - Throws: `SpecError` that lists the words.
  public init(_ text: String) throws(SpecError) {
    guard let found = Self(rawValue: text) else { throw SpecError("value", text, Self.allowed) }
    self = found
  }

  /// The word.
  public var description: String { rawValue }

  static var allowed: String { "allowed are " + allCases.map(\.rawValue).joined(separator: ", ") }
}

/// systemd's words for yes and no, in any case.
func parseBoolean(_ text: String) throws(SpecError) -> Bool {
  switch text.lowercased() {
  case "1", "yes", "y", "true", "t", "on": return true
  case "0", "no", "n", "false", "f", "off": return false
  default: throw SpecError("value", text, "allowed are yes and no")
  }
}
