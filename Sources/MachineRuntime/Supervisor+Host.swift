import Glibc
import Linux
import MachinePlan
import MachineSpec
import Systemd

/// What the host's own systemd has to do with a machine.
extension Supervisor {
  func chooseCgroups(for group: CgroupPlan) {
    guard hostManager != .none, hostBus == nil else { return }
    let bus = HostBus(to: hostManager, on: loop, log: log)
    hostBus = bus
    // A user's machines are none of the system's machined.
    if hostManager == .system { registration = MachinedRegistration(host: bus, log: log) }
    guard group.keeper != .nobody else { return }
    cgroups = SystemdCgroups(
      host: bus, on: loop, files: store.folder(of: name), stopTimeout: spec.exec.timeoutStop.microseconds
    ) { [unowned self] in stop(.poweroff) }
  }

  func register(_ leader: Int32) {
    guard let registration, let id = spec.machine.uuid ?? record?.uuid else { return }
    registration.register(name, id: id, leader: leader)
  }

  /// Tells the host's systemd how a machine is that runs as its service.
  func notifyHost() {
    guard isService, ServiceNotification.isWanted else { return }
    switch phase {
    case .idle, .starting: break
    // The machine's own boot goes on; nothing on the host waits for it.
    case .booting: _ = try? ServiceNotification.send(("READY", "1"), ("STATUS", "booting"))
    case .up: _ = try? ServiceNotification.send(("STATUS", phase.name))
    case .stopping(.reboot), .restarting: _ = try? ServiceNotification.send(("STATUS", phase.name))
    case .stopping:
      // What the spec gives the machine, and a little for ourselves.
      let time = spec.exec.timeoutStop.microseconds.map { $0 &+ 15_000_000 } ?? 86_400_000_000
      _ = try? ServiceNotification.send(
        ("STOPPING", "1"), ("STATUS", phase.name), ("EXTEND_TIMEOUT_USEC", "\(time)"))
    case .stopped(let failure):
      _ = try? ServiceNotification.send(("STATUS", failure?.description ?? phase.name))
    }
  }
}
