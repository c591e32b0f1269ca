import CLinux
import Linux
import Systemd

/// Keeps a process running: starts it again when it ends, at once and then with ever longer pauses while it does not
/// last.
final class Keeper {
  /// What it is, for the log.
  let name: String
  private let context: NetworkContext
  private let begin: (@escaping (String) -> Void) throws(Failure) -> CarrierProcess
  private(set) var process: CarrierProcess?
  private(set) var restarts = 0
  /// Why it ended last; nil while it never did.
  private(set) var lastEnd: String?
  private var started: UInt64 = 0
  private var shortLives = 0
  private var timer: EventLoop.Source?
  private var isWanted = true

  /// What lasted this long counts as having worked, in microseconds.
  private static let lasting: UInt64 = 10_000_000
  /// The longest pause, in microseconds.
  private static let longestPause: UInt64 = 10_000_000
  /// How often in a row the same end is told.
  private static let toldInARow = 4

  init(
    _ name: String, in context: NetworkContext,
    begin: @escaping (@escaping (String) -> Void) throws(Failure) -> CarrierProcess
  ) {
    self.name = name
    self.context = context
    self.begin = begin
  }

  /// Starts it; that it cannot even be tried is told like an end of it.
  func start() {
    guard isWanted else { return }
    started = clinux_monotonic_microseconds()
    do {
      process = try begin { [unowned self] reason in ended(reason) }
    } catch {
      ended(error.description)
    }
  }

  /// Ends it for good.
  func stop() {
    isWanted = false
    timer = nil
    process?.end()
    process = nil
  }

  private func ended(_ reason: String) {
    guard isWanted else { return }
    let isOldNews = reason == lastEnd && shortLives > Self.toldInARow
    lastEnd = reason
    let lasted = clinux_monotonic_microseconds() - started
    shortLives = lasted >= Self.lasting ? 0 : shortLives + 1
    // The first end of what worked is no reason to wait: the machine is off the net meanwhile.
    let pause = shortLives <= 1 ? 1 : min(Self.longestPause, 50_000 << UInt64(min(shortLives, 16)))
    // What the host's operator has to mend first would be told every ten seconds until then.
    if !isOldNews {
      context.tell("\(name): \(reason); it is started again\(pause > 1 ? " in \(pause / 1000) ms" : "")")
    }
    timer = try? context.loop.addTimer(after: pause) { [unowned self] in
      restarts += 1
      // Not from within its own last callback.
      process = nil
      start()
    }
  }
}
