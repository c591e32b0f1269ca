// Byte-wise helpers: unit files are ASCII in everything but values, and grapheme rules must not move a separator.

extension UInt8 {
  static let colon = UInt8(ascii: ":")
  static let comma = UInt8(ascii: ",")
  static let backslash = UInt8(ascii: "\\")

  var isDigit: Bool { self >= 0x30 && self <= 0x39 }
  var isLetter: Bool { (self | 0x20) >= 0x61 && (self | 0x20) <= 0x7a }
  var isSpace: Bool { self == 0x20 || self == 0x09 || self == 0x0a || self == 0x0d }
  var isControl: Bool { self < 0x20 || self == 0x7f }

  /// The value of a hexadecimal digit, or nil for any other byte.
  var hexValue: UInt8? {
    switch self {
    case 0x30...0x39: self - 0x30
    case 0x41...0x46: self - 0x41 + 10
    case 0x61...0x66: self - 0x61 + 10
    default: nil
    }
  }
}

/// Renders bytes as printable ASCII, safe for a terminal and a log line.
///
/// - Parameters:
///   - bytes: what to show; anything.
///   - limit: how many bytes are shown before the rest is left out.
func escaped(_ bytes: some Sequence<UInt8>, limit: Int = 128) -> String {
  var result = ""
  var shown = 0
  for byte in bytes {
    if shown == limit { return result + "..." }
    shown += 1
    switch byte {
    case 0x0a: result += "\\n"
    case 0x09: result += "\\t"
    case 0x0d: result += "\\r"
    case 0x22: result += "\\\""
    case .backslash: result += "\\\\"
    case 0x20...0x7e: result.unicodeScalars.append(Unicode.Scalar(byte))
    default: result += "\\x" + hex(byte)
    }
  }
  return result
}

/// Two lower-case hexadecimal digits.
func hex(_ byte: UInt8) -> String {
  let digits = String(byte, radix: 16)
  return byte < 16 ? "0" + digits : digits
}

/// An unsigned decimal number of digits only: no sign, no space, no overflow.
func decimal<Number: FixedWidthInteger>(_ text: some StringProtocol, as: Number.Type = Number.self) -> Number? {
  guard !text.isEmpty, text.utf8.count <= 20, text.utf8.allSatisfy(\.isDigit) else { return nil }
  return Number(text)
}

extension StringProtocol {
  /// The parts between separators, empty ones included.
  func fields(_ separator: UInt8) -> [String] {
    utf8.split(separator: separator, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The parts before and after the first separator, or nil when there is none.
  func cut(_ separator: UInt8) -> (before: String, after: String)? {
    guard let at = utf8.firstIndex(of: separator) else { return nil }
    return (
      String(decoding: utf8[..<at], as: UTF8.self), String(decoding: utf8[utf8.index(after: at)...], as: UTF8.self)
    )
  }

  /// Without the white space at both ends.
  var trimmed: String { String(decoding: MachineSpec.trimmed(Array(utf8)[...]), as: UTF8.self) }
}

/// Without the white space at both ends.
func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
  guard let first = bytes.firstIndex(where: { !$0.isSpace }), let last = bytes.lastIndex(where: { !$0.isSpace })
  else { return [] }
  return bytes[first...last]
}

/// The word among `words` that a mistyped one most likely meant, or nil when none is near.
func nearest(to mistyped: String, among words: some Sequence<String>) -> String? {
  guard mistyped.utf8.count <= 40 else { return nil }
  let allowance = Swift.min(2, mistyped.utf8.count / 3)
  return
    words
    .map { (word: $0, distance: editDistance(mistyped.lowercased(), $0.lowercased())) }
    .filter { $0.distance <= allowance }
    .min { ($0.distance, $0.word) < ($1.distance, $1.word) }?.word
}

/// How many bytes must be put in, taken out or replaced to get from one word to the other.
private func editDistance(_ left: String, _ right: String) -> Int {
  let right = Array(right.utf8)
  var row = Array(0...right.count)
  for (i, a) in left.utf8.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, b) in right.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a == b ? 0 : 1))
      diagonal = above
    }
  }
  return row[right.count]
}
