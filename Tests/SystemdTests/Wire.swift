/// Writes D-Bus messages as a hostile or plain peer would, in little-endian order.
struct Wire {
  private(set) var bytes: [UInt8] = []

  mutating func align(_ size: Int) {
    while bytes.count % size != 0 { bytes.append(0) }
  }

  mutating func number(_ value: UInt32) {
    align(4)
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func long(_ value: UInt64) {
    align(8)
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func string(_ value: String) {
    number(UInt32(value.utf8.count))
    bytes.append(contentsOf: value.utf8)
    bytes.append(0)
  }

  mutating func signature(_ value: String) {
    bytes.append(UInt8(value.utf8.count))
    bytes.append(contentsOf: value.utf8)
    bytes.append(0)
  }

  /// An array; `alignment` is that of its elements.
  mutating func array(alignment: Int, _ body: (inout Wire) -> Void) {
    number(0)
    let length = bytes.count - 4
    align(alignment)
    let start = bytes.count
    body(&self)
    withUnsafeBytes(of: UInt32(bytes.count - start).littleEndian) {
      bytes.replaceSubrange(length..<length + 4, with: $0)
    }
  }

  /// A whole message.
  static func message(
    type: UInt8, serial: UInt32, replyTo: UInt32? = nil, path: String? = nil, interface: String? = nil,
    member: String? = nil, error: String? = nil, signature: String = "", bodyLength: UInt32? = nil,
    _ body: (inout Wire) -> Void = { _ in }
  ) -> [UInt8] {
    var content = Wire()
    body(&content)
    var wire = Wire()
    wire.bytes = [UInt8(ascii: "l"), type, 0, 1]
    wire.number(bodyLength ?? UInt32(content.bytes.count))
    wire.number(serial)
    wire.array(alignment: 8) { wire in
      func field(_ code: UInt8, _ type: String, _ value: (inout Wire) -> Void) {
        wire.align(8)
        wire.bytes.append(code)
        wire.signature(type)
        value(&wire)
      }
      if let path { field(1, "o") { $0.string(path) } }
      if let interface { field(2, "s") { $0.string(interface) } }
      if let member { field(3, "s") { $0.string(member) } }
      if let error { field(4, "s") { $0.string(error) } }
      if let replyTo { field(5, "u") { $0.number(replyTo) } }
      if !signature.isEmpty { field(8, "g") { $0.signature(signature) } }
    }
    wire.align(8)
    return wire.bytes + content.bytes
  }
}
