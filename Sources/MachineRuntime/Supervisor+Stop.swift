import CLinux
import Glibc
import Linux
import MachineStore
import Systemd

/// From any phase to nothing left.
extension Supervisor {
  /// Asks the machine to stop, over its bus first and by signal where that does not answer; what does not stop by
  /// `TimeoutStopSec=` is killed.
  func stop(_ reason: Stop) {
    switch phase {
    case .stopped: return
    case .idle: return loop.exit(0)
    case .starting: return abort(reason)
    case .stopping where reason != .terminate: return
    case .booting, .up, .stopping: break
    }
    if reason == .terminate { return terminate() }
    let wasUp = if case .up = phase { true } else { false }
    enter(.stopping(reason))
    if let timeout = spec.exec.timeoutStop.microseconds {
      deadline = try? loop.addTimer(after: timeout) { [unowned self] in
        log.warning("\(name): it did not stop in time and is killed")
        terminate()
      }
    }
    guard wasUp, let guest else { return signalLeader(reason) }
    let answered: (Bool) -> Void = { [unowned self] accepted in if !accepted { signalLeader(reason) } }
    if reason == .reboot { guest.reboot(answered) } else { guest.powerOff(answered) }
  }

  /// SIGRTMIN+4 and SIGINT are poweroff and reboot to systemd as process 1 of a container.
  private func signalLeader(_ reason: Stop) {
    let number = reason == .reboot ? SIGINT : spec.exec.killSignal?.number ?? clinux_sigrtmin + 4
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
    _ = finish(Failure("start", name.description, "it was told to stop meanwhile"))
  }

  /// Process 1 has ended: by itself, or with the signal that the kernel gives for a reboot or a poweroff.
  func leaderEnded() {
    guard let leader else { return }
    console?.drain()
    memoryWatch?.look()
    let exit = (try? leader.process.reap(wait: true)) ?? nil
    endRun()
    guard let registration else { return conclude(exit) }
    registration.end(name) { [unowned self] in conclude(exit) }
  }

  private func conclude(_ exit: ProcessExit?) {
    let stop: Stop? = if case .stopping(let reason) = phase { reason } else { nil }
    switch exit {
    case .signalled(SIGHUP) where stop != .terminate: restart()
    case .signalled(SIGINT), .exited(0): _ = finish(nil)
    case _ where stop == .terminate: _ = finish(nil)
    // A reboot that was asked for and a process 1 that just exits: an init that knows no reboot in a container.
    case _ where stop == .reboot: restart()
    default: _ = finish(crash(exit))
    }
  }

  private func crash(_ exit: ProcessExit?) -> Failure {
    let how =
      switch exit {
      case .exited(let status): "with status \(status)"
      case .signalled(let number): "by signal \(number)"
      case nil: "in a way that is not known"
      }
    let tail = folder.map { ConsoleLog.tail(in: $0, lines: 3) } ?? []
    let last = tail.isEmpty ? "" : ", its last words: \(tail.joined(separator: " | "))"
    return Failure("run", name.description, "its process 1 ended \(how)\(last)")
  }

  private func restart() {
    enter(.stopping(.reboot))
    deadline = nil
    do {
      guard let group = plan?.group, var scope = host?.scope else { return }
      try cgroups.renewPayload(of: &scope, group)
      host?.scope = scope
      moments = []
      activeUnits = 0
      mark("requested")
      phase = .starting
      try startStage()
    } catch {
      _ = finish(error as? Failure ?? Failure("restart", name.description, "\(error)"))
    }
  }

  /// Lets go of what belonged to one run of the machine.
  private func endRun() {
    runSources = []
    progress = nil
    memoryWatch = nil
    autoScalers = []
    network?.stop()
    guest?.close()
    guest = nil
    notify = nil
    console = nil
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
    stage = nil
    endRun()
    network = nil
    undo.run()
    hostBus?.close()
    if let record, record.isEphemeral, let lock { try? store.discard(name, lock: lock) }
    lock = nil
    enter(.stopped(failure))
    control?.close()
    return failure
  }
}
