/// When a machine that ended is started again by its supervisor: `Restart=`, systemd's words.
public enum RestartMode: String, SpecKeyword, Hashable {
  /// Never.
  case no
  /// When its process 1 ended otherwise than by a poweroff or a reboot.
  case onFailure = "on-failure"
  /// Also when it was powered off from inside.
  case always
}

/// When a machine that ended is started again, and how patiently. What the operator stops stays stopped.
public struct RestartSettings: Equatable, Sendable {
  /// `Restart=`: default no.
  public var mode: RestartMode = .no
  /// `RestartSec=`: how long to wait before the first try; each further one waits twice as long. Default 1 s.
  public var delay: TimeSpan = TimeSpan(seconds: 1)
  /// `RestartMaxDelaySec=`: the longest wait. Default 1 min.
  public var maximumDelay: TimeSpan = TimeSpan(seconds: 60)
  /// `StartLimitIntervalSec=`: restarts that lie further back than this are forgotten. Default 10 min.
  public var interval: TimeSpan = TimeSpan(seconds: 600)
  /// `StartLimitBurst=`: how many restarts there may be in the interval; 0 is no limit. Default 5.
  public var burst: UInt32 = 5

  /// The defaults.
  public init() {}

  /// How long to wait before a restart, in microseconds.
  ///
  /// - Parameter earlier: how many restarts there were in the interval.
  /// - Returns: nil when there were too many.
  public func delay(after earlier: Int) -> UInt64? {
    if burst > 0, earlier >= Int(burst) { return nil }
    let longest = maximumDelay.microseconds ?? .max
    guard let first = delay.microseconds, first < longest else { return min(longest, delay.microseconds ?? longest) }
    // Beyond 63 doublings every wait is the longest.
    let (factor, isOver) = (earlier < 63 ? UInt64(1) << UInt64(earlier) : .max, earlier >= 63)
    let (product, overflows) = first.multipliedReportingOverflow(by: factor)
    return isOver || overflows ? longest : min(longest, product)
  }

  static let keys: [SpecKey] = [
    .value("Restart", \.machine.restart.mode),
    .custom(
      "RestartSec", \.machine.restart.delay, parse: { (text: String) throws(SpecError) in try finite(text) },
      print: \.description),
    .custom(
      "RestartMaxDelaySec", \.machine.restart.maximumDelay,
      parse: { (text: String) throws(SpecError) in try finite(text) }, print: \.description),
    .value("StartLimitIntervalSec", \.machine.restart.interval),
    .custom(
      "StartLimitBurst", \.machine.restart.burst,
      parse: { (text: String) throws(SpecError) -> UInt32 in
        guard let number = decimal(text, as: UInt32.self), number <= 1_000_000 else {
          throw SpecError("number", text, "allowed are numbers from 0 to 1000000; 0 is no limit")
        }
        return number
      }, print: { "\($0)" }),
  ]

  private static func finite(_ text: String) throws(SpecError) -> TimeSpan {
    let span = try TimeSpan(text)
    guard let time = span.microseconds, time <= 86_400_000_000 else {
      throw SpecError("time span", text, "allowed are spans up to one day")
    }
    return span
  }
}
