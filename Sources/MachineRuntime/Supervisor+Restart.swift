import CLinux
import Linux
import MachineSpec
import Systemd
import Varlink

/// When the machine was started again because it had ended, on the monotonic clock in microseconds.
struct RestartTimes {
  private(set) var times: [UInt64] = []
  /// How many there were since the supervisor began.
  private(set) var count: UInt64 = 0
  /// The one that is being waited for.
  var timer: EventLoop.Source?

  /// How many there were in the last so many microseconds; nil stands for all.
  mutating func recent(within interval: UInt64?) -> Int {
    let now = clinux_monotonic_microseconds()
    if let interval { times.removeAll { now >= interval && $0 < now - interval } }
    return times.count
  }

  mutating func note() {
    count += 1
    // No more than are asked for: without a limit there may be any number.
    if times.count >= 64 { times.removeFirst() }
    times.append(clinux_monotonic_microseconds())
  }
}

/// `Restart=`: a machine that ended though nobody asked it to.
extension Supervisor {
  /// The machine ended by itself: starts it again after a while where the spec says so, and else is done.
  ///
  /// - Parameter failure: how it crashed; nil for a poweroff from inside.
  func ended(_ failure: Failure?, details: JSON) {
    if let failure {
      var details = details
      details["reason"] = .string(failure.reason)
      diary.tell("crashed", details, matters: true)
    }
    let settings = spec.machine.restart
    let isWanted =
      switch settings.mode {
      case .no: false
      case .onFailure: failure != nil
      case .always: true
      }
    guard isWanted else {
      _ = finish(failure)
      return
    }
    let earlier = restarts.recent(within: settings.interval.microseconds)
    guard let delay = settings.delay(after: earlier) else {
      let reason = failure?.reason ?? "it was powered off from inside"
      _ = finish(
        Failure(
          "keep up", name.description,
          "\(reason); it was started again \(earlier) times in \(settings.interval), and is left alone now",
          advice: "hengectl start \(name)"))
      return
    }
    do {
      restarts.timer = try loop.addTimer(after: delay) { [unowned self] in
        restarts.timer = nil
        restarts.note()
        restart()
      }
    } catch {
      _ = finish(Failure("restart", name.description, "\(error)"))
      return
    }
    let pause = TimeSpan(microseconds: delay).description
    deadline = nil
    diary.tell("restarting", ["after": .string(pause), "restarts": JSON(restarts.count)])
    enter(.restarting)
    let why = failure?.reason ?? "it was powered off from inside"
    let line = "\(name) is started again in \(pause) (Restart=\(settings.mode)): \(why)"
    log.warning("\(line)")
    for observer in observers { observer.responder.send(["warnings": [.string(line)]]) }
  }
}
