/// How many user and group ids a machine has: a multiple of 65536, as `327680` or `5x65536`.
public struct IDCount: SpecValue, Hashable {
  private static let unit: UInt32 = 65536
  /// More than that is more than half of the ids that there are for machines.
  private static let maximum: UInt32 = 16384

  /// How many.
  public let count: UInt32

  /// Takes a number, or two with an `x` between them.
  ///
  /// - Parameter text: the number.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError("number of ids", text, "allowed are multiples of 65536, such as 327680 or 5x65536")
    if let (times, unit) = text.cut(UInt8(ascii: "x")) {
      guard unit == "65536", let times = decimal(times, as: UInt32.self), (1...Self.maximum).contains(times) else {
        throw wrong
      }
      count = times * Self.unit
    } else {
      guard let number = decimal(text, as: UInt32.self), number > 0, number % Self.unit == 0,
        number / Self.unit <= Self.maximum
      else { throw wrong }
      count = number
    }
  }

  /// For example `5x65536`.
  public var description: String { "\(count / Self.unit)x\(Self.unit)" }
}
