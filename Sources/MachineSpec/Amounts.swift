// Numbers with units as systemd.resource-control(5) writes them.

/// A share in hundredths of a percent, so that it is exact.
public struct Percentage: SpecValue, Hashable, Comparable {
  /// 100 is one percent.
  public let hundredths: UInt32

  /// Takes hundredths of a percent.
  public init(hundredths: UInt32) { self.hundredths = hundredths }

  /// Takes a number with at most two digits after the point, and `%`.
  ///
  /// - Parameter text: the percentage.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError("percentage", text, "allowed are numbers such as 50% and 12.5%")
    guard text.utf8.last == UInt8(ascii: "%") else { throw wrong }
    let number = String(decoding: text.utf8.dropLast(), as: UTF8.self)
    if let (_, fraction) = number.cut(UInt8(ascii: ".")), !(1...2).contains(fraction.utf8.count) { throw wrong }
    guard let value = scaled(number, by: 100).flatMap({ UInt32(exactly: $0) }) else { throw wrong }
    hundredths = value
  }

  /// For example `12.5%`.
  public var description: String {
    let (whole, rest) = (hundredths / 100, hundredths % 100)
    if rest == 0 { return "\(whole)%" }
    return rest % 10 == 0 ? "\(whole).\(rest / 10)%" : "\(whole).\(rest < 10 ? "0" : "")\(rest)%"
  }

  /// Orders by size.
  public static func < (left: Self, right: Self) -> Bool { left.hundredths < right.hundredths }
}

/// A number of bytes, a share of the host's memory, or no limit.
public enum MemoryLimit: SpecValue, Hashable {
  /// So many bytes.
  case bytes(UInt64)
  /// A share of the memory that the host (or the cgroup above) has; at most 100 %.
  case percent(Percentage)
  /// No limit.
  case infinity

  /// Takes a number with an optional `K`, `M`, `G`, `T`, `P` or `E` to the base 1024, a percentage, or `infinity`.
  ///
  /// - Parameter text: the limit.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    if text == "infinity" {
      self = .infinity
    } else if let share = try? Percentage(text), share.hundredths <= 10_000 {
      self = .percent(share)
    } else if let bytes = suffixed(text, base: 1024), bytes < .max {
      self = .bytes(bytes)
    } else {
      throw SpecError("size", text, "allowed are bytes with K, M, G or T to the base 1024, 0% to 100%, and infinity")
    }
  }

  /// The text that parses to this value.
  public var description: String {
    switch self {
    case .infinity: return "infinity"
    case .percent(let share): return share.description
    case .bytes(let bytes):
      let units: [(String, UInt64)] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)]
      for (letter, size) in units where bytes > 0 && bytes % size == 0 { return "\(bytes / size)\(letter)" }
      return String(bytes)
    }
  }

  var isZero: Bool { self == .bytes(0) || self == .percent(Percentage(hundredths: 0)) }
}

/// A number of tasks, a share of what the host allows, or no limit.
public enum TasksLimit: SpecValue, Hashable {
  /// So many processes and threads, at least one.
  case count(UInt64)
  /// A share of the host's limit; more than 0 %, at most 100 %.
  case percent(Percentage)
  /// No limit.
  case infinity

  /// Takes a number with an optional `K`, `M` or `G` to the base 1000, a percentage, or `infinity`.
  ///
  /// - Parameter text: the limit.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    if text == "infinity" {
      self = .infinity
    } else if let share = try? Percentage(text), (1...10_000).contains(share.hundredths) {
      self = .percent(share)
    } else if let count = suffixed(text, base: 1000), count > 0, count < .max {
      self = .count(count)
    } else {
      throw SpecError("limit", text, "allowed are numbers from 1, percentages to 100%, and infinity")
    }
  }

  /// The text that parses to this value.
  public var description: String {
    switch self {
    case .infinity: "infinity"
    case .percent(let share): share.description
    case .count(let count): String(count)
    }
  }
}

/// The machine's weight for the processor against its siblings: `cpu.weight`, or `cpu.idle`.
public enum CPUWeight: SpecValue, Hashable {
  /// Only what nobody else wants.
  case idle
  /// 1 to 10000; a cgroup without a weight has 100.
  case weight(UInt16)

  /// Takes `idle` or a number from 1 to 10000.
  ///
  /// - Parameter text: the weight.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    if text == "idle" {
      self = .idle
    } else {
      guard let number = decimal(text, as: UInt16.self), (1...10_000).contains(number) else {
        throw SpecError("weight", text, "allowed are 1 to 10000 and idle")
      }
      self = .weight(number)
    }
  }

  /// The text that parses to this value.
  public var description: String {
    switch self {
    case .idle: "idle"
    case .weight(let number): String(number)
    }
  }
}

/// The machine's weight for block devices against its siblings: `io.weight`.
public struct IOWeight: SpecValue, Hashable {
  /// 1 to 10000; a cgroup without a weight has 100.
  public let weight: UInt16

  /// Takes a number from 1 to 10000.
  ///
  /// - Parameter text: the weight.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    guard let number = decimal(text, as: UInt16.self), (1...10_000).contains(number) else {
      throw SpecError("weight", text, "allowed are 1 to 10000")
    }
    weight = number
  }

  /// The number.
  public var description: String { String(weight) }
}

/// Some of the host's processors, by their numbers.
public struct CPUSet: SpecSet, Hashable {
  /// The numbers, ascending, neither touching nor overlapping.
  public private(set) var ranges: [ClosedRange<Int>] = []

  /// No processor.
  public init() {}

  /// Takes numbers and ranges `A-B` from 0 to 8191, separated by commas or white space.
  ///
  /// - Parameter text: the set.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError("processor list", text, "allowed are numbers and ranges from 0 to 8191 such as 0-3,8")
    var found: [ClosedRange<Int>] = []
    for part in text.utf8.split(whereSeparator: { $0.isSpace || $0 == .comma }) {
      let word = String(decoding: part, as: UTF8.self)
      let (first, last) = word.cut(UInt8(ascii: "-")) ?? (word, word)
      guard let low = decimal(first, as: Int.self), let high = decimal(last, as: Int.self), low <= high, high <= 8191
      else { throw wrong }
      found.append(low...high)
    }
    guard !found.isEmpty else { throw wrong }
    ranges = Self.merged(found)
  }

  /// Adds the processors of another set.
  public mutating func formUnion(_ more: CPUSet) { ranges = Self.merged(ranges + more.ranges) }

  /// The form of `cpuset.cpus`, for example `0-3,8`.
  public var description: String {
    ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
  }

  private static func merged(_ ranges: [ClosedRange<Int>]) -> [ClosedRange<Int>] {
    var result: [ClosedRange<Int>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound + 1 {
        result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }
}

/// A number with an optional unit letter, `B` for none; nil when it is malformed or too large.
func suffixed(_ text: String, base: UInt64) -> UInt64? {
  let letters = Array("BKMGTPE".utf8)
  guard let last = text.utf8.last, let exponent = letters.firstIndex(of: last) else { return scaled(text, by: 1) }
  var unit: UInt64 = 1
  for _ in 0..<exponent { unit *= base }
  return scaled(String(decoding: text.utf8.dropLast(), as: UTF8.self), by: unit)
}
