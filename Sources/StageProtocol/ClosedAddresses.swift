/// What no machine reaches through sockets of the host's, whoever makes them: link-local addresses, where clouds tell
/// secrets, and those of many. What belongs to the host itself comes on top; the host's routes know that.
///
/// The one list: the guard over the forwarder's packets and the broker of handed-off connections both go by it.
public enum ClosedAddresses {
  /// Addresses that begin alike.
  public struct Prefix: Sendable, Equatable {
    /// 4 or 16 bytes.
    public var bytes: [UInt8]
    /// How many bits count.
    public var bits: Int

    /// Whether an address of 4 or 16 bytes is one of them.
    public func holds(_ address: [UInt8]) -> Bool {
      guard address.count == bytes.count else { return false }
      for (index, byte) in bytes.enumerated() {
        let left = bits - index * 8
        if left <= 0 { return true }
        let mask: UInt8 = left >= 8 ? 0xff : ~(0xff >> UInt8(left))
        if (address[index] ^ byte) & mask != 0 { return false }
      }
      return true
    }
  }

  /// Those of IPv4, and those of IPv6.
  public static let prefixes: [Prefix] = [
    // Link-local, where clouds tell secrets.
    Prefix(bytes: [169, 254, 0, 0], bits: 16),
    // Of many, and those with the address of all.
    Prefix(bytes: [224, 0, 0, 0], bits: 4),
    Prefix(bytes: [240, 0, 0, 0], bits: 4),
    Prefix(bytes: [0xfe, 0x80] + none(14), bits: 10),
    Prefix(bytes: [0xff] + none(15), bits: 8),
    Prefix(bytes: [0xfd, 0, 0x0e, 0xc2] + none(10) + [0x02, 0x54], bits: 128),
  ]

  private static func none(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

  /// Whether an address of 4 or 16 bytes is closed.
  public static func holds(_ address: [UInt8]) -> Bool { prefixes.contains { $0.holds(address) } }
}
