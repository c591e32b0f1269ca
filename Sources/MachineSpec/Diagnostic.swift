/// One finding about a spec, with the place that it is about.
public struct Diagnostic: Hashable, Sendable, CustomStringConvertible {
  /// How grave a finding is.
  public enum Severity: String, Hashable, Sendable {
    /// The assignment was left out; the spec can be used.
    case warning
    /// The spec must not be used.
    case error
  }

  /// How grave it is.
  public var severity: Severity
  /// The name of the file as it was handed to the parser, or `command line`.
  public var file: String
  /// The line, counted from 1; on the command line the place of the assignment among its arguments.
  public var line: Int
  /// What is wrong and what is allowed: one lower-case line of printable ASCII.
  public var message: String

  /// Makes a finding.
  ///
  /// - Parameters:
  ///   - severity: how grave it is.
  ///   - file: the name of the file.
  ///   - line: the line, counted from 1.
  ///   - message: what is wrong and what is allowed, already escaped.
  public init(_ severity: Severity, file: String, line: Int, _ message: String) {
    self.severity = severity
    self.file = file
    self.line = line
    self.message = message
  }

  /// `FILE:LINE: MESSAGE`, with `warning: ` before the message of a warning.
  public var description: String {
    "\(escaped(file.utf8, limit: 4096)):\(line): \(severity == .warning ? "warning: " : "")\(message)"
  }
}

/// Where a diagnostic points.
struct Origin: Hashable, Sendable {
  var file: String
  var line: Int
}

/// Gathers findings, bounded in number so that a hostile file cannot fill memory; at least one error is always kept.
struct DiagnosticLog {
  static let limit = 1000
  private(set) var all: [Diagnostic] = []
  private var counts: [Diagnostic.Severity: Int] = [:]

  /// Whether no more findings of a kind are taken.
  func isFull(_ severity: Diagnostic.Severity) -> Bool { counts[severity, default: 0] > Self.limit }

  mutating func add(_ severity: Diagnostic.Severity, _ origin: Origin, _ message: String) {
    add(Diagnostic(severity, file: origin.file, line: origin.line, message))
  }

  mutating func add(_ diagnostic: Diagnostic) {
    let count = counts[diagnostic.severity, default: 0]
    guard count <= Self.limit else { return }
    counts[diagnostic.severity] = count + 1
    var kept = diagnostic
    if count == Self.limit { kept.message = "too many findings, the rest is left out" }
    all.append(kept)
  }

  /// Puts the findings from `start` on in the order of their lines; those of one line keep theirs.
  mutating func sort(from start: Int) {
    guard start < all.count else { return }
    let sorted = all[start...].enumerated()
      .sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }.map(\.element)
    all.replaceSubrange(start..., with: sorted)
  }
}
