/// `AutoScale=`: by how much a limit may move by itself, upwards under pressure where the host is idle, and back when it
/// is calm.
public struct AutoScale: SpecValue, Hashable {
  /// The limit that moves.
  public enum Subject: String, SpecKeyword, Hashable {
    /// `MemoryHigh=`, in bytes.
    case memoryHigh = "MemoryHigh"
    /// `CPUQuota=`, in hundredths of a percent of a processor.
    case cpuQuota = "CPUQuota"
  }

  /// The limit that moves.
  public let subject: Subject
  /// The least that it is.
  public let minimum: UInt64
  /// The most that it gets.
  public let maximum: UInt64
  /// By how much it moves at once.
  public let step: UInt64

  /// Takes `MemoryHigh MINIMUM MAXIMUM STEP` with bytes, or `CPUQuota MINIMUM MAXIMUM STEP` with percentages.
  ///
  /// - Parameter text: the policy.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError(
      "policy", text,
      "write MemoryHigh or CPUQuota, MINIMUM MAXIMUM STEP, as in MemoryHigh 1G 4G 512M or CPUQuota 50% 200% 25%")
    let words = try splitWords(text, "policy")
    guard words.count == 4 else { throw wrong }
    subject = try Subject(words[0])
    var numbers: [UInt64] = []
    for word in words.dropFirst() {
      let number: UInt64? =
        switch subject {
        case .memoryHigh: suffixed(word, base: 1024)
        case .cpuQuota: (try? Percentage(word)).map { UInt64($0.hundredths) }
        }
      guard let number, number > 0, number < .max else { throw wrong }
      numbers.append(number)
    }
    (minimum, maximum, step) = (numbers[0], numbers[1], numbers[2])
    guard minimum < maximum, step <= maximum - minimum else {
      throw SpecError(
        "policy", text, "the minimum must be below the maximum, and the step no more than what is between")
    }
  }

  /// The number nearest to another that the policy allows.
  public func allowed(_ value: UInt64) -> UInt64 { min(max(value, minimum), maximum) }

  /// One step up; the maximum is never left.
  public func above(_ value: UInt64) -> UInt64 { value >= maximum - step ? maximum : allowed(value + step) }

  /// One step down; the minimum is never left.
  public func below(_ value: UInt64) -> UInt64 { value <= minimum + step ? minimum : allowed(value - step) }

  /// A number as the spec writes it.
  public func text(_ value: UInt64) -> String {
    switch subject {
    case .memoryHigh: MemoryLimit.bytes(value).description
    case .cpuQuota: Percentage(hundredths: UInt32(clamping: value)).description
    }
  }

  /// The text that parses to this value.
  public var description: String {
    "\(subject.rawValue) \(text(minimum)) \(text(maximum)) \(text(step))"
  }
}

extension ResourcesSection {
  /// The policy for a limit, if it has one.
  public func autoScale(of subject: AutoScale.Subject) -> AutoScale? { autoScale.first { $0.subject == subject } }
}
