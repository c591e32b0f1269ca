import Glibc
import Linux

/// What reaches the operator's terminal. Everything that came from a machine or an image goes through `printable`.
enum Terminal {
  static let isOutput = isatty(1) == 1
  static let isError = isatty(2) == 1

  /// One line on standard error, with whatever was there cleared.
  static func complain(_ line: String) {
    complain(plain: "hengectl: \(line)")
  }

  static func complain(plain text: String) {
    write(2, (isError ? "\r\u{1b}[K" : "") + text + (text.hasSuffix("\n") ? "" : "\n"))
  }

  /// One line on standard output, at once: also when that is a pipe whose reader waits for it.
  static func line(_ text: String) {
    write(1, text + "\n")
  }

  static func warn(_ lines: [String]) {
    // One that points at a line of a spec has the word in it, behind the place.
    for line in lines {
      let says = line.split(separator: " ").contains("warning:")
      complain(says ? printable(line) : "warning: \(printable(line))")
    }
  }

  /// Says what failed and ends with its code. A failure without words has been told by the program that it happened in.
  static func fail(_ failure: Failure) -> Never {
    if !failure.operation.isEmpty { complain(failure.description) }
    exit(failure.kind.rawValue)
  }

  /// A line that the next one replaces; only on a terminal.
  static func progress(_ text: String) {
    guard isError else { return }
    let width = terminalSize(of: 2)?.columns ?? 80
    write(2, "\r\u{1b}[K" + String(printable(text, limit: 400).prefix(max(10, width - 1))))
  }

  static func clearProgress() {
    if isError { write(2, "\r\u{1b}[K") }
  }

  /// Text in a colour, on a terminal.
  static func colour(_ state: String) -> String {
    guard isOutput else { return state }
    switch state {
    case "running": return "\u{1b}[32m\(state)\u{1b}[0m"
    case "degraded": return "\u{1b}[33m\(state)\u{1b}[0m"
    case "stopped": return "\u{1b}[2m\(state)\u{1b}[0m"
    default: return state
    }
  }

  private static func write(_ descriptor: Int32, _ text: String) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { return }
      bytes = bytes.dropFirst(count)
    }
  }
}

/// Columns that are as wide as what is in them.
struct Table {
  private var rows: [[String]]

  init(_ header: String...) {
    rows = [header]
  }

  mutating func add(_ cells: String...) {
    rows.append(cells.map { printable($0, limit: 200) })
  }

  /// Prints the table, or a sentence in place of an empty one.
  func show(empty: String) {
    guard rows.count > 1 else {
      print(empty)
      return
    }
    let count = rows[0].count
    let widths = (0..<count).map { column in rows.map { $0[column].count }.max() ?? 0 }
    for (index, row) in rows.enumerated() {
      var line = ""
      for (column, cell) in row.enumerated() {
        let shown = index > 0 && rows[0][column] == "STATE" ? Terminal.colour(cell) : cell
        line += shown
        if column + 1 < count { line += String(repeating: " ", count: widths[column] - cell.count + 2) }
      }
      print(line)
    }
  }
}

/// A moment in seconds since 1970, in the operator's time zone.
func date(_ seconds: UInt64) -> String {
  var time = time_t(clamping: seconds)
  var parts = tm()
  guard localtime_r(&time, &parts) != nil else { return "-" }
  var buffer = [CChar](repeating: 0, count: 64)
  let length = strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &parts)
  return String(decoding: buffer.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A number of bytes as people read it.
func size(_ bytes: UInt64) -> String {
  let units = ["B", "K", "M", "G", "T", "P"]
  var value = Double(bytes)
  var unit = 0
  while value >= 1024, unit + 1 < units.count {
    value /= 1024
    unit += 1
  }
  if unit == 0 { return "\(bytes)B" }
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(tenths % 10)\(units[unit])"
}
