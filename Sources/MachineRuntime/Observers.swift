import CLinux
import Linux
import Systemd
import Varlink

/// Somebody who waits for a phase.
struct Observer {
  enum Goal: String {
    case executed
    case running
    case stopped

    init(_ text: String) throws(Failure) {
      guard let goal = Goal(rawValue: text) else {
        throw Failure("wait for", text, "it is none of executed, running, stopped", kind: .usage)
      }
      self = goal
    }
  }

  let responder: VarlinkResponder
  let goal: Goal
}

extension Supervisor {
  func observe(_ responder: VarlinkResponder, until goal: Observer.Goal) {
    observers.append(Observer(responder: responder, goal: goal))
  }

  /// Tells those who watch; of a unit at most fifty times a second, because a machine may say more than a reader takes,
  /// and a reader that is behind by a megabyte is cut off. A new phase is always told.
  func tellProgress(unit: String?, isNews: Bool = false) {
    guard !observers.isEmpty else { return }
    let now = clinux_monotonic_microseconds()
    guard isNews || now >= lastProgress + 20_000 else { return }
    lastProgress = now
    let progress: JSON = [
      "progress": [
        "state": .string(stateName), "unit": JSON(unit), "units": JSON(activeUnits), "status": .string(statusText),
      ]
    ]
    for observer in observers { observer.responder.send(progress) }
  }

  /// Answers those whose goal is reached, or cannot be any more.
  func tellObservers() {
    let waiting = observers.filter(\.responder.isOpen)
    observers = waiting.filter { !answer($0) }
    tellProgress(unit: nil, isNews: true)
  }

  private func answer(_ observer: Observer) -> Bool {
    switch (phase, observer.goal) {
    case (.up, .running) where isFrozen: return false
    case (.up, .running), (.up, .executed), (.booting, .executed):
      observer.responder.finish(["state": stateJSON])
    // For whoever told it to stop in the middle of a start that is no failure.
    case (.stopped, .stopped) where isAborted: observer.responder.finish(["state": stateJSON])
    case (.stopped(nil), .stopped): observer.responder.finish(["state": stateJSON])
    case (.stopped(let failure), _):
      let ended = Failure("wait for", name.description, "it stopped before it was \(observer.goal.rawValue)")
      observer.responder.fail(VarlinkError(failure ?? ended))
    default: return false
    }
    return true
  }
}
