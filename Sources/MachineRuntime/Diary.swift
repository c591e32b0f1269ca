import CLinux
import Linux
import MachineSpec
import MachineStore
import Varlink

/// What a supervisor tells of its machine for `hengectl events`. A machine can make changes happen as fast as it likes,
/// so only so many are told in a while, and of the rest their number.
final class Diary {
  /// In microseconds.
  private static let interval: UInt64 = 10_000_000
  private static let limit = 100

  private let name: MachineName
  private let log: EventLog
  private var begin: UInt64 = 0
  private var told = 0
  private var untold = 0
  /// What was told last, so that one change is told once.
  private var last = ""

  init(of name: MachineName, in log: EventLog) {
    self.name = name
    self.log = log
  }

  /// - Parameter matters: told however much was told before: how the machine ended.
  func tell(_ event: String, _ details: JSON = [:], matters: Bool = false) {
    let now = clinux_monotonic_microseconds()
    if now >= begin + Self.interval {
      begin = now
      told = 0
      if untold > 0 { log.append(MachineEvent(name, "suppressed", details: ["events": JSON(untold)])) }
      untold = 0
    }
    told += 1
    guard matters || told <= Self.limit else {
      untold += 1
      return
    }
    log.append(MachineEvent(name, event, details: details))
  }

  /// Tells a phase, unless it is the one that was told last.
  func tellPhase(_ event: String, _ details: JSON, matters: Bool = false) {
    let text = event + details.compact
    guard text != last else { return }
    last = text
    tell(event, details, matters: matters)
  }
}

extension Supervisor {
  /// Tells `hengectl events` what happened to the machine.
  ///
  /// - Parameters:
  ///   - event: one word.
  ///   - details: what else is known; texts may be the machine's, and are cut.
  func tell(event: String, details: JSON = [:]) {
    log.notice("\(name): \(event) \(details.compact)")
    diary.tell(event, details)
  }

  /// Tells the phase that was entered just now.
  func tellPhase() {
    // Without the lock it is another supervisor's machine.
    guard lock != nil else { return }
    var details: JSON = [:]
    switch phase {
    case .idle: return
    case .starting, .booting: break
    case .up(let failed):
      if let leader { details["leader"] = JSON(leader.id) }
      if !failed.isEmpty { details["units"] = JSON(failed.map(\.name)) }
    case .stopping(let stop):
      if stop == .terminate { details["how"] = asked == .terminate ? "terminate" : "deadline" }
      details["by"] = asked == nil ? "machine" : "operator"
    // Told where the reason is known.
    case .restarting: return
    case .stopped(let failure):
      if let failure { details["reason"] = .string(failure.reason) }
      return diary.tellPhase(phase.name, details, matters: true)
    }
    diary.tellPhase(phase.name, details)
  }
}
