/// The 65536 host ids that belong to exactly one machine.
public struct UIDRange: Hashable, Sendable, CustomStringConvertible {
  /// How many ids a machine gets unless its spec asks for more.
  public static let standardCount: UInt32 = 65536

  /// The host's id of the machine's root.
  public let base: UInt32
  /// How many ids follow from there.
  public let count: UInt32

  /// A range from a base on.
  public init(base: UInt32, count: UInt32 = UIDRange.standardCount) {
    self.base = base
    self.count = count
  }

  /// The last id of the range.
  public var last: UInt32 { base &+ (count &- 1) }

  /// Whether the two share an id.
  public func overlaps(_ other: UIDRange) -> Bool {
    base <= other.last && other.base <= last
  }

  /// `524288-589823`
  public var description: String { "\(base)-\(last)" }
}
