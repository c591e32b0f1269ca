import CLinux
import Glibc
import Linux
import MachineStore
import Systemd
import Varlink

/// From any phase to nothing left.
extension Supervisor {
  /// Asks the machine to stop, over its bus first and by signal where that does not answer; what does not stop by
  /// `TimeoutStopSec=` is killed.
  func stop(_ reason: Stop) {
    switch phase {
    case .stopped: return
    case .idle: return loop.exit(0)
    case .starting:
      asked = reason
      return abort(reason)
    case .restarting:
      _ = finish(nil)
      return
    case .stopping(let already) where reason != .terminate:
      // A machine that is killed already, or that the operator has told to power off, is on no other way any more.
      if already == .terminate || asked == .poweroff { return }
      asked = reason
      if deadline == nil { armDeadline() }
      if already != reason { enter(.stopping(reason)) }
      return
    case .booting, .up, .stopping: break
    }
    asked = reason
    thawForStop()
    if reason == .terminate { return terminate() }
    let wasUp = if case .up = phase { true } else { false }
    enter(.stopping(reason))
    armDeadline()
    guard wasUp, let guest else { return signalLeader(reason) }
    // A bus that takes its time over the answer must leave the signal some before the deadline.
    let patience = min(5_000_000, (spec.exec.timeoutStop.microseconds ?? .max) / 3)
    self.patience = try? loop.addTimer(after: patience) { [unowned self] in signalLeader(reason) }
    let answered: (Bool) -> Void = { [unowned self] accepted in
      guard self.patience?.isActive ?? false else { return }
      self.patience = nil
      if !accepted { signalLeader(reason) }
    }
    if reason == .reboot { guest.reboot(answered) } else { guest.powerOff(answered) }
  }

  private func armDeadline() {
    guard let timeout = spec.exec.timeoutStop.microseconds else { return }
    deadline = try? loop.addTimer(after: timeout) { [unowned self] in
      log.warning("\(name): it did not stop in time and is killed")
      terminate()
    }
  }

  /// SIGRTMIN+4 and SIGINT are poweroff and reboot to systemd as process 1 of a container.
  private func signalLeader(_ reason: Stop) {
    let number = reason == .reboot ? SIGINT : spec.exec.killSignal?.number ?? clinux_sigrtmin + 4
    patience = nil
    _ = try? leader?.process.signal(number)
  }

  /// Kills everything of the machine's at once.
  private func terminate() {
    enter(.stopping(.terminate))
    do {
      try host?.scope.payload.kill()
    } catch {
      log.error("\(error)")
      _ = try? leader?.process.signal(SIGKILL)
    }
  }

  private func abort(_ reason: Stop) {
    try? host?.scope.payload.kill()
    isAborted = true
    _ = finish(Failure("start", name.description, "it was told to stop meanwhile"))
  }

  /// Process 1 has ended: by itself, or with the signal that the kernel gives for a reboot or a poweroff.
  func leaderEnded() {
    guard let leader else { return }
    memoryWatch?.look()
    let exit = (try? leader.process.reap(wait: true)) ?? nil
    endRun()
    guard let registration else { return conclude(exit) }
    registration.end(name) { [unowned self] in conclude(exit) }
  }

  private func conclude(_ exit: ProcessExit?) {
    let stop: Stop? = if case .stopping(let reason) = phase { reason } else { nil }
    switch (asked, exit) {
    // The operator's word counts, whatever the machine made of it.
    case (.terminate, _), (.poweroff, .signalled(SIGHUP)), (.poweroff, .signalled(SIGINT)), (.poweroff, .exited(0)):
      _ = finish(nil)
    case (.poweroff, _) where stop == .terminate: _ = finish(nil)
    case (.poweroff, _): _ = finish(crash(exit))
    // Also one that was killed at the deadline, and an init that knows no reboot in a container and just exits.
    case (.reboot, _): restart()
    case (nil, .signalled(SIGHUP)): restart()
    case (nil, .signalled(SIGINT)), (nil, .exited(0)): ended(nil, details: [:])
    case (nil, .exited(let status)): ended(crash(exit), details: ["exit": JSON(status)])
    case (nil, .signalled(let number)): ended(crash(exit), details: ["signal": JSON(number)])
    case (nil, nil): ended(crash(exit), details: [:])
    }
  }

  private func crash(_ exit: ProcessExit?) -> Failure {
    let how =
      switch exit {
      case .exited(let status): "with status \(status)"
      case .signalled(let number): "by signal \(number)"
      case nil: "in a way that is not known"
      }
    let tail = console?.tail(lines: 3) ?? []
    let last = tail.isEmpty ? "" : ", its last words: \(tail.joined(separator: " | "))"
    return Failure("run", name.description, "its process 1 ended \(how)\(last)")
  }

  /// Starts the same machine again: with its plan, its ids and its control group.
  func restart() {
    if case .restarting = phase {} else { enter(.stopping(.reboot)) }
    deadline = nil
    asked = nil
    isFrozen = false
    do {
      guard let group = plan?.group, var scope = host?.scope else { return }
      try cgroups.renewPayload(of: &scope, group)
      host?.scope = scope
      moments = []
      activeUnits = 0
      mark("requested")
      phase = .starting
      tellPhase()
      try startStage()
    } catch {
      _ = finish(error as? Failure ?? Failure("restart", name.description, "\(error)"))
    }
  }

  /// Lets go of what belonged to one run of the machine.
  private func endRun() {
    runSources = []
    patience = nil
    freezing?.cancel()
    isFrozen = false
    suspendUnitWaits()
    progress = nil
    memoryWatch = nil
    autoScalers = []
    network?.stop()
    guest?.close()
    guest = nil
    executions?.close()
    executions = nil
    notify = nil
    console?.detach()
    terminals = nil
    liveMounts = []
    leader = nil
  }

  /// Takes everything back and tells those who wait. What they hear is true when they hear it: nothing is left, and
  /// the machine may be started again.
  ///
  /// - Returns: the failure, for the caller to throw.
  func finish(_ failure: Failure?) -> Failure? {
    deadline = nil
    restarts.timer = nil
    stage = nil
    endRun()
    network = nil
    failing = nil
    console?.close()
    console = nil
    undo.run()
    // Told with the lock still held, and before it goes altogether.
    phase = .stopped(failure)
    tellPhase()
    hostBus?.close()
    if let record, record.isEphemeral, let lock { try? store.discard(name, lock: lock) }
    lock = nil
    enter(.stopped(failure))
    control?.close()
    return failure
  }
}
