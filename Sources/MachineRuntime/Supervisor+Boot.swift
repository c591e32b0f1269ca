import Linux
import Systemd

/// From process 1 to `running`, as its notifications and its bus tell.
extension Supervisor {
  func take(_ message: NotifyMessage) {
    // A systemd that tells by itself need not be asked.
    if !message.activeUnits.isEmpty { progress = nil }
    // From the one on there is somebody who answers; with the other at least a socket that waits for it to come.
    if case .booting = phase, message.activeUnits.contains(where: { $0 == "dbus.service" || $0 == "basic.target" }),
      let leader
    {
      connection(to: leader.process).openEarly()
    }
    activeUnits += message.activeUnits.count
    if let status = message.status { statusText = status }
    if case .booting = phase {
      for unit in message.activeUnits { tellProgress(unit: unit) }
      if message.activeUnits.isEmpty, message.status != nil { tellProgress(unit: nil) }
      if message.isReady { becomeUp() }
    }
    guard case .up = phase else { return }
    if message.activeUnits.contains("soft-reboot.target") { return softReboot() }
    if message.isStopping || message.shutdown != nil {
      enter(.stopping(message.shutdown == "reboot" ? .reboot : .poweroff))
    }
  }

  /// Everything but process 1 ends and comes up again; that it is done is told as at a boot. The bus was one of those.
  private func softReboot() {
    suspendUnitWaits()
    guest?.reset()
    activeUnits = 0
    tell(event: "soft-reboot")
    enter(.booting)
  }

  /// Ready means that the queue of the boot is empty, not that all went well: that its systemd is asked for.
  private func becomeUp() {
    guard let leader else { return }
    mark("ready")
    progress = nil
    let guest = connection(to: leader.process)
    guest.open { [unowned self] in
      guest.state { [unowned self] result in
        guard case .booting = phase else { return }
        switch result {
        case .success(let answer): finishBoot(answer, guest)
        case .failure(let failure):
          log.error("\(failure)")
          // A process 1 on its way out cannot be asked either; its end, which tells what happened, comes next.
          if isExiting(leader.id) { return }
          // It runs, and said so; that it cannot be asked is a failure of its own.
          enter(.up([FailedUnit(name: "-", description: "its systemd does not answer: \(failure.reason)", lines: [])]))
        }
      }
    }
  }

  /// Whether the kernel is taking a process down: bit `PF_EXITING` of the flags in `/proc/PID/stat`. Only for a child
  /// that has not been reaped, whose number is nobody else's.
  func isExiting(_ process: Int32) -> Bool {
    let path = "/proc/\(process)/stat"
    guard let bytes = try? Descriptor.open(path).readAll(limit: 4096, subject: path),
      let end = bytes.lastIndex(of: UInt8(ascii: ")"))
    else { return true }
    let fields = String(decoding: bytes[end...], as: UTF8.self).split(separator: " ")
    return fields.count > 7 && (UInt64(fields[7]) ?? 0) & 0x4 != 0
  }

  private func connection(to leader: Pidfd) -> GuestConnection {
    if let guest { return guest }
    let guest = GuestConnection(leader: leader, programs: programs, loop: loop)
    guest.program = sealedStage
    guest.onLoss = { [unowned self] in
      suspendUnitWaits()
      resumeUnitWaits()
    }
    self.guest = guest
    return guest
  }

  private func finishBoot(_ state: String, _ guest: GuestConnection) {
    switch state {
    case "running": enter(.up([]))
    case "degraded":
      guest.failedUnits { [unowned self] failed in
        guard case .booting = phase else { return }
        enter(.up(failed))
      }
    // Somebody inside said `systemctl poweroff` meanwhile; the end of the leader says the rest.
    case "stopping": enter(.stopping(.poweroff))
    default:
      log.error("\(name): unexpected state \(printable(state, limit: 64))")
      enter(.up([FailedUnit(name: "-", description: "its systemd says '\(printable(state, limit: 64))'", lines: [])]))
    }
  }
}
