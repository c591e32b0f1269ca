import Linux
import Systemd
import Varlink

/// Somebody who waits for a unit of the machine.
final class UnitWait {
  let unit: String
  let responder: VarlinkResponder
  var watch: UnitWatch?
  /// How often its systemd went away while it was asked.
  var losses = 0

  init(_ unit: String, _ responder: VarlinkResponder) {
    self.unit = unit
    self.responder = responder
  }
}

/// Waiting for units: while the machine is up they are watched over its bus, and what is waited for outlives a reboot.
extension Supervisor {
  func wait(forUnit unit: String, _ responder: VarlinkResponder) throws {
    guard (1...255).contains(unit.utf8.count), unit.utf8.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x2f }) else {
      throw Failure("wait for", unit, "it is not the name of a unit", kind: .usage)
    }
    if case .up = phase { try requireAnswering(to: "wait for a unit of") }
    let wait = UnitWait(unit, responder)
    unitWaits.append(wait)
    responder.onHangUp = { [weak self, weak wait] in
      guard let self, let wait else { return }
      wait.watch?.cancel()
      unitWaits.removeAll { $0 === wait }
    }
    resumeUnitWaits()
  }

  /// Watches the units that somebody waits for, as far as they are not watched yet.
  func resumeUnitWaits() {
    if case .stopped(let failure) = phase { return endUnitWaits(failure) }
    guard case .up = phase, !isFrozen, let guest else { return }
    for wait in unitWaits where wait.watch == nil {
      let watch = UnitWatch(wait.unit, of: guest) { [unowned self, unowned wait] outcome in take(outcome, of: wait) }
      wait.watch = watch
      watch.begin()
    }
  }

  /// Lets go of the machine's bus; the wishes stay.
  func suspendUnitWaits() {
    for wait in unitWaits {
      wait.watch?.cancel()
      wait.watch = nil
    }
  }

  private func endUnitWaits(_ failure: Failure?) {
    let waits = unitWaits
    unitWaits = []
    for wait in waits {
      let ended = Failure("wait for", wait.unit, "\(name) stopped before it was active")
      wait.responder.fail(VarlinkError(failure ?? ended))
    }
  }

  private func take(_ outcome: UnitWatch.Outcome, of wait: UnitWait) {
    if case .unreachable(_, isTimeout: false) = outcome, wait.losses < 5 {
      // It re-executes itself, or restarts its bus: the next connection tells. Not from within its own callback.
      wait.losses += 1
      wait.watch = nil
      _ = try? loop.post { [unowned self] in resumeUnitWaits() }
      return
    }
    unitWaits.removeAll { $0 === wait }
    wait.watch = nil
    switch outcome {
    case .active(let state):
      wait.responder.finish([
        "unit": [
          "name": .string(wait.unit), "description": .string(state.description), "load": .string(state.load),
          "active": .string(state.active), "sub": .string(state.sub),
        ]
      ])
    case .failed(let reason, let lines):
      let said = lines.map { printable($0, limit: 200) }.joined(separator: " | ")
      let words = said.isEmpty ? "" : "; its last words: \(said)"
      wait.responder.fail(
        VarlinkError(Failure("wait for", wait.unit, "\(printable(reason, limit: 300)) in \(name)\(words)")))
    case .unreachable(let reason, let isTimeout):
      wait.responder.fail(
        VarlinkError(
          Failure(
            "wait for", wait.unit, "the systemd of \(name) does not answer: \(printable(reason, limit: 300))",
            kind: isTimeout ? .timedOut : .failed)))
    }
  }
}
