/// A 128-bit identity, as in `/etc/machine-id` and `container_uuid`.
public struct MachineUUID: SpecValue, Hashable, Comparable {
  private let high: UInt64
  private let low: UInt64

  /// Takes 16 bytes, the first being the first that is printed.
  ///
  /// - Parameter bytes: exactly 16 bytes.
  /// - Throws: `SpecError` for any other number of bytes.
  public init(bytes: some Collection<UInt8>) throws(SpecError) {
    guard bytes.count == 16 else { throw SpecError("UUID", "\(bytes.count) bytes", "16 bytes are needed") }
    high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// Takes 16 random bytes and marks them as a version 4 UUID, as `sd_id128_randomize(3)` does.
  ///
  /// - Parameter bytes: exactly 16 bytes from a good source, for example `getrandom(2)`.
  /// - Throws: `SpecError` for any other number of bytes.
  public init(randomBytes bytes: some Collection<UInt8>) throws(SpecError) {
    let plain = try MachineUUID(bytes: bytes)
    high = plain.high & ~0xf000 | 0x4000
    low = plain.low & ~(0b11 << 62) | 0b10 << 62
  }

  /// Parses 32 hexadecimal digits, plain or with dashes after 8, 12, 16 and 20 of them.
  ///
  /// - Parameter text: the UUID.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let rule = "32 hexadecimal digits, plain or grouped 8-4-4-4-12"
    let bytes = Array(text.utf8)
    let dashed = bytes.count == 36
    guard dashed || bytes.count == 32 else { throw SpecError("UUID", text, rule) }
    var words: (UInt64, UInt64) = (0, 0)
    for (index, byte) in bytes.enumerated() {
      if dashed, [8, 13, 18, 23].contains(index) {
        guard byte == UInt8(ascii: "-") else { throw SpecError("UUID", text, rule) }
        continue
      }
      guard let digit = byte.hexValue else { throw SpecError("UUID", text, rule) }
      words = (words.0 << 4 | words.1 >> 60, words.1 << 4 | UInt64(digit))
    }
    (high, low) = words
  }

  /// The 16 bytes, the first being the first that is printed.
  public var bytes: [UInt8] {
    [high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } }
  }

  /// 32 lower-case hexadecimal digits, the form of `/etc/machine-id`.
  public var plain: String { bytes.map(hex).joined() }

  /// Lower-case hexadecimal digits grouped 8-4-4-4-12.
  public var description: String {
    var text = ""
    for (index, byte) in bytes.enumerated() {
      if [4, 6, 8, 10].contains(index) { text += "-" }
      text += hex(byte)
    }
    return text
  }

  /// All bits zero: systemd takes it for "not set".
  public var isNull: Bool { high == 0 && low == 0 }

  /// Orders by the bytes.
  public static func < (left: Self, right: Self) -> Bool { (left.high, left.low) < (right.high, right.low) }
}
