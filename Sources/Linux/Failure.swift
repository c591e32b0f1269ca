import SystemPackage

/// What went wrong, as one lower-case line: what, on which path or name, why, and what to do about it.
///
/// The only error type that reaches an operator. `description` never holds a control character, so it may be printed
/// on a terminal whatever the subject was called.
public struct Failure: Error, Sendable, CustomStringConvertible {
  /// The class of a failure, whose raw value is the exit code of a program that ends with it.
  public enum Kind: Int32, Sendable {
    /// It was tried and did not work.
    case failed = 1
    /// The command line or a spec is wrong.
    case usage = 2
    /// The machine is up, and some of its units failed.
    case degraded = 3
    /// There is no machine or image of that name.
    case notFound = 4
    /// This host cannot do it; the advice says what would make it.
    case refused = 5
    /// A deadline passed first.
    case timedOut = 124
  }

  /// The class of the failure.
  public var kind: Kind
  /// What was being done, in the infinitive: `open`, `mount overlay`.
  public var operation: String
  /// The path or name that it was done to.
  public var subject: String?
  /// Why it did not work.
  public var reason: String
  /// The one thing that mends it, if there is one.
  public var advice: String?
  /// The kernel's error number, where the kernel refused.
  public var errno: Errno?
  /// Whether `operation` is the whole line already.
  var isWhole = false

  /// Describes a failure that the kernel did not cause.
  public init(
    _ operation: String, _ subject: String? = nil, _ reason: String, advice: String? = nil, kind: Kind = .failed
  ) {
    self.kind = kind
    self.operation = operation
    self.subject = subject
    self.reason = reason
    self.advice = advice
  }

  /// Describes a system call that failed.
  ///
  /// - Parameters:
  ///   - operation: what was being done.
  ///   - subject: the path or name that it was done to.
  ///   - errno: the kernel's error number.
  public init(
    _ operation: String, _ subject: String? = nil, errno: Errno, advice: String? = nil, kind: Kind = .failed
  ) {
    self.init(operation, subject, errno.description.lowercasedASCII, advice: advice, kind: kind)
    self.errno = errno
  }

  /// The line to print, without an end of line.
  public var description: String {
    if isWhole { return printable(operation, limit: 8192) }
    var line = "cannot \(operation)"
    if let subject { line += " '\(printable(subject))'" }
    line += ": \(printable(reason))"
    if let advice { line += "; \(printable(advice))" }
    return line
  }
}

extension String {
  /// The string with A to Z in lower case, without Unicode tables.
  var lowercasedASCII: String {
    String(decoding: utf8.map { (65...90).contains($0) ? $0 + 32 : $0 }, as: UTF8.self)
  }
}

/// Text that came from a machine, an image or a command line, made fit for a terminal.
///
/// Control characters, and the marks that change the direction of text, become `\xNN` or `\u{NNNN}`; what is longer
/// than `limit` characters is cut and ends in `…`.
///
/// - Parameters:
///   - text: any text.
///   - limit: the greatest number of characters to keep.
/// - Returns: the same text, harmless.
public func printable(_ text: some StringProtocol, limit: Int = 1024) -> String {
  var result = ""
  var count = 0
  for scalar in text.unicodeScalars {
    if count == limit { return result + "…" }
    count += 1
    switch scalar.value {
    case 0..<0x20, 0x7f..<0xa0:
      let digits = String(scalar.value, radix: 16)
      result += digits.utf8.count == 1 ? "\\x0\(digits)" : "\\x\(digits)"
    case 0x061c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff, 0xfff9...0xfffb:
      result += "\\u{\(String(scalar.value, radix: 16))}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}

extension Failure {
  /// A failure that another program of ours has put into words already.
  public init(line: String, kind: Kind) {
    self.init(line, nil, "", kind: kind)
    isWhole = true
  }
}

/// Text without what moves, colours or names a terminal (control sequences of ECMA-48).
public func withoutControlSequences(_ text: String) -> String {
  var result = ""
  var scalars = text.unicodeScalars.makeIterator()
  while let scalar = scalars.next() {
    guard scalar == "\u{1b}" else {
      result.unicodeScalars.append(scalar)
      continue
    }
    switch scalars.next() {
    // Parameters, and then one letter or its like.
    case "[": while let next = scalars.next(), !(0x40...0x7e).contains(next.value) {}
    // A string, up to a bell or the backslash of its terminator.
    case "]", "P", "_", "^": while let next = scalars.next(), next != "\u{07}", next != "\\" {}
    default: break
    }
  }
  return result
}
