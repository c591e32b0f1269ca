/// Text of a machine's that comes in pieces, made fit for a terminal: of what controls a terminal or turns the direction
/// of text only line ends and tabs are left.
struct TerminalText {
  /// Longer than a line that anybody reads; one that is not at its end by then is shown in parts.
  private static let limit = 1 << 16
  private var waiting: [UInt8] = []
  private let isConsole: Bool

  /// - Parameter isConsole: whether it comes from a terminal, where lines end with a carriage return as well, and a
  ///   prompt without a line end is shown as it comes.
  init(isConsole: Bool = false) {
    self.isConsole = isConsole
  }

  /// What of it can be shown by now: whole lines.
  mutating func harmless(_ bytes: [UInt8]) -> [UInt8] {
    waiting += bytes
    var end = waiting.lastIndex(of: 10).map { $0 + 1 } ?? 0
    if isConsole || end == 0 && waiting.count >= Self.limit {
      // Not within a character: it would show as two that are none.
      end = waiting.count
      for back in 1...4 where end > back && waiting[waiting.count - back] >= 0xc0 { end = waiting.count - back }
    }
    defer { waiting.removeFirst(end) }
    return harmless(waiting[..<end])
  }

  /// What is left at the end.
  mutating func rest() -> [UInt8] {
    defer { waiting = [] }
    return harmless(waiting[...])
  }

  private func harmless(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
      switch scalar.value {
      case 13 where isConsole: break
      case 9, 10, 0x20..<0x7f: result.append(UInt8(scalar.value))
      case 0..<0x20, 0x7f..<0xa0:
        let digits = String(scalar.value, radix: 16)
        result += (digits.utf8.count == 1 ? "\\x0\(digits)" : "\\x\(digits)").utf8
      case 0x061c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff, 0xfff9...0xfffb:
        result += "\\u{\(String(scalar.value, radix: 16))}".utf8
      default: result += String(scalar).utf8
      }
    }
    return result
  }
}
