import CLinux
import Glibc

/// One line on a terminal that tells how far an import is; nothing when standard error is no terminal.
///
/// It is drawn by whoever makes progress, at most ten times a second: there is no timer and no thread.
final class ProgressLine {
  private static let interval: UInt64 = 100_000_000
  private static let barWidth: UInt64 = 24

  private let isTerminal = isatty(2) == 1
  private let name: String
  private let total: UInt64?
  private let start = clinux_monotonic_nanoseconds()
  private var last: UInt64 = 0
  private var isDrawn = false

  /// Starts a line.
  ///
  /// - Parameters:
  ///   - name: the image.
  ///   - total: the size of what is read, in bytes, when it is known.
  init(name: String, total: UInt64?) {
    self.name = name
    self.total = total
  }

  /// Draws, when it is time to.
  func update(entries: UInt64, bytes: UInt64, read: UInt64) {
    guard isTerminal else { return }
    let now = clinux_monotonic_nanoseconds()
    if now - last < Self.interval { return }
    last = now
    var line = "\r\u{1b}[K\(name)  "
    if let total, total > 0 {
      let done = min(read, total)
      // Divided first: a file may be larger than 2^64 / 100.
      let percent = Int(Double(done) / Double(total) * 100)
      let filled = Int(Double(done) / Double(total) * Double(Self.barWidth))
      line += "[" + String(repeating: "#", count: filled)
      line += String(repeating: ".", count: Int(Self.barWidth) - filled) + "] \(percent) %  "
    }
    let seconds = Double(now - start) / 1e9
    let rate = seconds > 0 ? UInt64(Double(bytes) / seconds) : 0
    line += "\(entries) entries  \(Self.size(bytes))  \(Self.size(rate))/s"
    write(line)
    isDrawn = true
  }

  /// Clears the line, before anything else is written.
  func end() {
    if isDrawn { write("\r\u{1b}[K") }
    isDrawn = false
  }

  private func write(_ text: String) {
    let bytes = Array(text.utf8)
    _ = clinux_write(2, bytes, bytes.count)
  }

  private static func size(_ bytes: UInt64) -> String {
    var value = Double(bytes)
    for unit in ["B", "KiB", "MiB"] {
      if value < 1024 { return "\(Int(value)) \(unit)" }
      value /= 1024
    }
    let tenths = Int(value * 10)
    return "\(tenths / 10).\(tenths % 10) GiB"
  }
}
