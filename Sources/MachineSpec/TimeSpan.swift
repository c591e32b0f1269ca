/// A span of time as systemd.time(7) writes it, in microseconds.
public struct TimeSpan: SpecValue, Hashable, Comparable {
  /// The number of microseconds; nil is infinity.
  public let microseconds: UInt64?

  /// No end.
  public static let infinity = TimeSpan(microseconds: nil)

  /// Takes microseconds; nil is infinity, and so is the largest number, as in systemd.
  public init(microseconds: UInt64?) { self.microseconds = microseconds == .max ? nil : microseconds }

  /// Takes whole seconds; what does not fit is infinity.
  public init(seconds: UInt32) { microseconds = UInt64(seconds) * 1_000_000 }

  /// The span for clocks and timers; nil is infinity.
  public var duration: Duration? {
    microseconds.map {
      .init(secondsComponent: Int64($0 / 1_000_000), attosecondsComponent: Int64($0 % 1_000_000) * 1_000_000_000_000)
    }
  }

  private static let rule =
    "allowed are spans such as 90s, 1min 30s, 1.5h, 500ms, a bare number of seconds, and infinity"

  private static let units: [String: UInt64] = {
    let second: UInt64 = 1_000_000
    let table: [(String, UInt64)] = [
      ("us usec", 1), ("ms msec", 1000), ("s sec second seconds", second), ("m min minute minutes", 60 * second),
      ("h hr hour hours", 3600 * second), ("d day days", 86400 * second), ("w week weeks", 604800 * second),
      ("M month months", 2_629_800 * second), ("y year years", 31_557_600 * second),
    ]
    var result: [String: UInt64] = ["": second, "\u{b5}s": 1, "\u{3bc}s": 1]
    for (words, size) in table { for word in words.split(separator: " ") { result[String(word)] = size } }
    return result
  }()

  /// Takes numbers with units, added up; a number without a unit is seconds.
  ///
  /// - Parameter text: the span.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    if text == "infinity" {
      self = .infinity
      return
    }
    let wrong = SpecError("time span", text, Self.rule)
    var total: UInt128 = 0
    var rest = Array(text.utf8)[...].drop(while: \.isSpace)
    guard !rest.isEmpty, rest.count <= 256 else { throw wrong }
    while !rest.isEmpty {
      let number = rest.prefix { $0.isDigit || $0 == UInt8(ascii: ".") }
      rest = rest.dropFirst(number.count).drop(while: \.isSpace)
      let unit = rest.prefix { !$0.isSpace && !$0.isDigit && $0 != UInt8(ascii: ".") }
      rest = rest.dropFirst(unit.count).drop(while: \.isSpace)
      guard let size = Self.units[String(decoding: unit, as: UTF8.self)],
        let part = scaled(String(decoding: number, as: UTF8.self), by: size)
      else { throw wrong }
      total += UInt128(part)
    }
    guard total < UInt128(UInt64.max) else { throw SpecError("time span", text, "it is too long, write infinity") }
    microseconds = UInt64(truncatingIfNeeded: total)
  }

  /// `infinity`, or one number with the largest unit out of s, ms and us that loses nothing.
  public var description: String {
    guard let microseconds else { return "infinity" }
    if microseconds % 1_000_000 == 0 { return "\(microseconds / 1_000_000)s" }
    return microseconds % 1000 == 0 ? "\(microseconds / 1000)ms" : "\(microseconds)us"
  }

  /// Shorter before longer, infinity last.
  public static func < (left: Self, right: Self) -> Bool {
    (left.microseconds ?? .max) < (right.microseconds ?? .max)
  }
}

/// A decimal number with an optional fraction, times a unit, rounded down; nil when it is malformed or too large.
func scaled(_ text: String, by unit: UInt64) -> UInt64? {
  let (whole, fraction) = text.cut(UInt8(ascii: ".")) ?? (text, "0")
  let digits = String(decoding: fraction.utf8.prefix(12), as: UTF8.self)
  guard fraction.utf8.allSatisfy(\.isDigit), let number = decimal(whole, as: UInt64.self),
    let parts = decimal(digits, as: UInt64.self)
  else { return nil }
  var power: UInt128 = 1
  for _ in digits.utf8 { power *= 10 }
  return UInt64(exactly: UInt128(number) * UInt128(unit) + UInt128(parts) * UInt128(unit) / power)
}
