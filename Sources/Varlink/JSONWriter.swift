extension JSON {
  /// The value as bytes on one line, without white space.
  public var compactBytes: [UInt8] {
    var writer = JSONWriter(pretty: false)
    writer.write(self)
    return writer.bytes
  }

  /// The value as text on one line, without white space.
  public var compact: String { String(decoding: compactBytes, as: UTF8.self) }

  /// The value as text for readers, indented by two spaces, without an end of line after it.
  public var pretty: String {
    var writer = JSONWriter(pretty: true)
    writer.write(self)
    return String(decoding: writer.bytes, as: UTF8.self)
  }
}

extension JSON: CustomStringConvertible {
  /// The compact form.
  public var description: String { compact }
}

/// Writes JSON that every reader takes and no terminal obeys.
struct JSONWriter {
  private(set) var bytes: [UInt8] = []
  private let pretty: Bool
  private var depth = 0

  init(pretty: Bool) {
    self.pretty = pretty
  }

  mutating func write(_ value: JSON) {
    switch value {
    case .null: append("null")
    case .bool(let value): append(value ? "true" : "false")
    case .int(let value): append(String(value))
    // JSON has no word for what is not finite.
    case .double(let value): append(value.isFinite ? value.description : "null")
    case .string(let value): write(value)
    case .array(let elements):
      list("[", "]", elements) { $0.write($1) }
    case .object(let object):
      list("{", "}", object.entries) { writer, entry in
        writer.write(entry.key)
        writer.append(writer.pretty ? ": " : ":")
        writer.write(entry.value)
      }
    }
  }

  private mutating func append(_ text: String) {
    bytes.append(contentsOf: text.utf8)
  }

  private mutating func newLine() {
    guard pretty else { return }
    bytes.append(0x0a)
    bytes.append(contentsOf: repeatElement(0x20, count: 2 * depth))
  }

  private mutating func list<Element>(
    _ open: String, _ close: String, _ elements: [Element], _ body: (inout JSONWriter, Element) -> Void
  ) {
    append(open)
    if elements.isEmpty { return append(close) }
    depth += 1
    var first = true
    for element in elements {
      if !first { append(",") }
      first = false
      newLine()
      body(&self, element)
    }
    depth -= 1
    newLine()
    append(close)
  }

  private mutating func write(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x22: append("\\\"")
      case 0x5c: append("\\\\")
      case 0x0a: append("\\n")
      case 0x0d: append("\\r")
      case 0x09: append("\\t")
      // Beyond what JSON asks for: terminal controls of the upper half, and marks that change the direction of text.
      case 0..<0x20, 0x7f..<0xa0, 0x061c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff, 0xfff9...0xfffb:
        let digits = String(scalar.value, radix: 16)
        append("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
      default: bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
