/// Bytes that do not hold what they should.
public struct WireError: Error, Sendable, Equatable {
  /// What was expected.
  public let expected: String
}

/// Writes values one after the other: integers with the lowest byte first, text and lists behind their length.
public struct WireWriter: Sendable {
  /// What was written so far.
  public private(set) var bytes: [UInt8] = []

  /// An empty message.
  public init() {}

  mutating func byte(_ value: UInt8) { bytes.append(value) }
  mutating func bool(_ value: Bool) { bytes.append(value ? 1 : 0) }
  mutating func integer<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }
  mutating func data(_ value: [UInt8]) {
    integer(UInt32(truncatingIfNeeded: value.count))
    bytes += value
  }
  mutating func text(_ value: String) { data(Array(value.utf8)) }
  mutating func list<Element>(_ values: [Element], _ write: (inout WireWriter, Element) -> Void) {
    integer(UInt32(truncatingIfNeeded: values.count))
    for value in values { write(&self, value) }
  }
}

/// Reads what `WireWriter` wrote, and never beyond the end.
public struct WireReader: Sendable {
  private let bytes: [UInt8]
  private var position = 0

  /// Reads these bytes from their start.
  public init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  var isAtEnd: Bool { position == bytes.count }

  mutating func byte() throws(WireError) -> UInt8 {
    guard position < bytes.count else { throw WireError(expected: "one more byte") }
    position += 1
    return bytes[position - 1]
  }

  mutating func bool() throws(WireError) -> Bool {
    switch try byte() {
    case 0: return false
    case 1: return true
    default: throw WireError(expected: "a truth value")
    }
  }

  mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(WireError) -> Value {
    let size = MemoryLayout<Value>.size
    guard bytes.count - position >= size else { throw WireError(expected: "an integer") }
    var value: Value = 0
    for index in 0..<size { value |= Value(truncatingIfNeeded: bytes[position + index]) << Value(8 * index) }
    position += size
    return value
  }

  mutating func data() throws(WireError) -> [UInt8] {
    let count = Int(try integer(UInt32.self))
    guard bytes.count - position >= count else { throw WireError(expected: "\(count) bytes") }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }

  mutating func text() throws(WireError) -> String {
    let data = try data()
    guard let text = String(validating: data, as: UTF8.self), !data.contains(0) else {
      throw WireError(expected: "text")
    }
    return text
  }

  mutating func list<Element>(
    _ read: (inout WireReader) throws(WireError) -> Element
  ) throws(WireError) -> [Element] {
    let count = Int(try integer(UInt32.self))
    // An element takes at least a byte: a larger count is a lie, and must not reserve memory.
    guard count <= bytes.count - position else { throw WireError(expected: "\(count) elements") }
    var result: [Element] = []
    result.reserveCapacity(count)
    for _ in 0..<count { result.append(try read(&self)) }
    return result
  }
}
