/// Why a text is not the value that it should be.
public struct SpecError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What the text should have been, for example `machine name`.
  public let subject: String
  /// The text as it was given, cut to a bounded length and escaped to printable ASCII.
  public let escapedValue: String
  /// What is wrong with it, or what is allowed.
  public let reason: String

  /// Makes an error about a text.
  ///
  /// - Parameters:
  ///   - subject: what the text should have been.
  ///   - value: the text, unescaped.
  ///   - reason: what is wrong, or what is allowed.
  public init(_ subject: String, _ value: String, _ reason: String) {
    self.subject = subject
    self.escapedValue = escaped(value.utf8)
    self.reason = reason
  }

  /// One line: what, the escaped text, what is allowed.
  public var description: String { "bad \(subject) \"\(escapedValue)\": \(reason)" }
}
