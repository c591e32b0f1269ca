/// One file in unit-file syntax, read into its assignments in order.
///
/// The syntax is systemd's: `[Section]` headers, `Key=Value` lines, comments behind `#` or `;` at a line's start, and a
/// backslash at a line's end that joins the next line with a space. Comments between joined lines are left out.
public struct UnitFile: Sendable {
  /// One `Key=Value`, with the place where it begins.
  public struct Assignment: Hashable, Sendable {
    /// The section that it stands in.
    public var section: String
    /// The key, without white space around it.
    public var key: String
    /// The value, without white space around it, quotes and escapes untouched.
    public var value: String
    /// The name of the file.
    public var file: String
    /// The line that it begins on, counted from 1.
    public var line: Int

    var origin: Origin { Origin(file: file, line: line) }
  }

  /// One `[Section]` header.
  public struct Header: Hashable, Sendable {
    /// The name between the brackets.
    public var name: String
    /// The line, counted from 1.
    public var line: Int
  }

  /// The most bytes that a file may have.
  public static let maximumSize = 1 << 20
  /// The most bytes that a line may have once its continuations are joined to it.
  public static let maximumLineLength = 128 << 10

  /// The name of the file.
  public let name: String
  /// The section headers in order.
  public private(set) var headers: [Header] = []
  /// The assignments in order.
  public private(set) var assignments: [Assignment] = []
  /// What is wrong with the syntax: errors only.
  public var diagnostics: [Diagnostic] { log.all }

  private var log = DiagnosticLog()
  private var section: String?
  private var isSkipping = false

  /// Reads a file's bytes; whatever is wrong becomes a diagnostic, and the other lines are still read.
  ///
  /// - Parameters:
  ///   - name: the name of the file for diagnostics.
  ///   - bytes: what is in it: UTF-8, with or without a byte order mark.
  public init(name: String, bytes: [UInt8]) {
    self.name = name
    guard bytes.count <= Self.maximumSize else {
      fail(1, "the file has \(bytes.count) bytes, allowed are \(Self.maximumSize)")
      return
    }
    let body = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? bytes.dropFirst(3) : bytes[...]
    var joined: [UInt8] = []
    var isJoining = false
    var start = 1
    for (index, line) in body.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated() {
      let first = line.first { !$0.isSpace }
      if first == UInt8(ascii: "#") || first == UInt8(ascii: ";") { continue }
      if !isJoining { start = index + 1 }
      let bare = line.last == 0x0d ? line.dropLast() : line
      if endsInBackslash(bare) {
        joined += bare.dropLast()
        joined.append(0x20)
        isJoining = true
      } else if isJoining {
        read((joined + bare)[...], line: start)
        joined = []
        isJoining = false
      } else {
        read(bare, line: start)
      }
    }
    if isJoining { read(joined[...], line: start) }
  }

  private mutating func fail(_ line: Int, _ message: String) {
    log.add(.error, Origin(file: name, line: line), message)
  }

  private mutating func read(_ raw: ArraySlice<UInt8>, line: Int) {
    let bytes = trimmed(raw)
    guard let first = bytes.first else { return }
    guard bytes.count <= Self.maximumLineLength else {
      return fail(line, "the line has \(bytes.count) bytes, allowed are \(Self.maximumLineLength)")
    }
    // Only the key is shown of an assignment: the value may be a secret.
    let shown = escaped(bytes.prefix { $0 != UInt8(ascii: "=") })
    guard !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self) else {
      return fail(line, "the line of \"\(shown)\" has a NUL byte or is not UTF-8")
    }
    if first == UInt8(ascii: "[") {
      readHeader(text, line: line)
    } else if let (key, value) = text.cut(UInt8(ascii: "=")), !key.trimmed.isEmpty {
      if isSkipping { return }
      guard let section else { return fail(line, "\"\(shown)=\" stands before any [Section]") }
      assignments.append(
        Assignment(section: section, key: key.trimmed, value: value.trimmed, file: name, line: line))
    } else {
      fail(line, "\"\(escaped(bytes))\" is neither [Section], Key=Value nor a comment")
    }
  }

  private mutating func readHeader(_ text: String, line: Int) {
    let inner = text.utf8.dropFirst().dropLast()
    guard text.utf8.last == UInt8(ascii: "]"), !inner.isEmpty,
      inner.allSatisfy({ !$0.isControl && $0 != UInt8(ascii: "[") && $0 != UInt8(ascii: "]") })
    else {
      // What follows belongs to a section nobody can name: drop it rather than give it to the section before.
      isSkipping = true
      return fail(line, "\"\(escaped(text.utf8))\" is not a section header, write [Section]")
    }
    let name = String(decoding: inner, as: UTF8.self)
    section = name
    isSkipping = false
    headers.append(Header(name: name, line: line))
  }
}

/// Whether a line goes on: an odd number of backslashes at its end, as the even ones escape each other.
private func endsInBackslash(_ line: ArraySlice<UInt8>) -> Bool {
  line.reversed().prefix { $0 == .backslash }.count % 2 == 1
}
