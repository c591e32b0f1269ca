import Glibc
import Linux
import Logging
import MachineSpec
import Systemd

/// The machine's entry with the host's systemd-machined, by which machinectl, `journalctl -M` and nss-mymachines know
/// it. A host without it, or with one that does not answer, does without: nothing waits for it but the last moment of
/// the entry, and that not for long.
final class MachinedRegistration {
  private enum State {
    case none
    case asked
    case registered
    /// It ended before machined had answered.
    case abandoned
  }

  private let host: HostBus
  private let log: Logger
  private var state = State.none

  private static let name = "org.freedesktop.machine1"
  private static let path = "/org/freedesktop/machine1"
  private static let interface = "org.freedesktop.machine1.Manager"
  /// In microseconds: to answer may take machined its own start.
  private static let timeout: UInt64 = 10_000_000
  /// In microseconds: how long the end of a machine may wait for it.
  private static let lastTimeout: UInt64 = 2_000_000

  init(host: HostBus, log: Logger) {
    self.host = host
    self.log = log
  }

  /// Enters a machine. The method is `RegisterMachineWithNetwork`.
  ///
  /// - Parameters:
  ///   - machine: its name.
  ///   - id: its UUID.
  ///   - leader: the process id of its process 1.
  ///   - interfaces: numbers of the host's network interfaces that lead to it.
  func register(_ machine: MachineName, id: MachineUUID, leader: Int32, interfaces: [Int32] = []) {
    guard state == .none else { return }
    state = .asked
    host.open { [weak self] result in
      guard let self, state == .asked else { return }
      switch result {
      case .failure(let failure): fail(machine, failure.reason)
      case .success(let manager) where manager.bus.kind == .direct:
        fail(machine, "the host's bus does not answer")
      case .success(let manager): send(machine, id, leader, interfaces, on: manager.bus)
      }
    }
  }

  private func send(_ machine: MachineName, _ id: MachineUUID, _ leader: Int32, _ interfaces: [Int32], on bus: Bus) {
    bus.call(
      Self.name, Self.path, Self.interface, "RegisterMachineWithNetwork", timeout: Self.timeout,
      arguments: { message throws(BusError) in
        try message.append(machine.description)
        try message.append(bytes: id.bytes)
        try message.append("henge")
        try message.append("container")
        try message.append(UInt32(clamping: leader))
        try message.append("")
        try message.appendArray(of: "i") { message throws(BusError) in
          for interface in interfaces { try message.append(interface) }
        }
      },
      completion: { [weak self] result in
        guard let self else { return }
        switch result {
        case .failure(let error): fail(machine, error.description)
        case .success where state == .abandoned: unregister(machine, on: bus) {}
        case .success:
          state = .registered
          log.info("\(machine): registered with systemd-machined")
        }
      })
  }

  private func fail(_ machine: MachineName, _ reason: String) {
    state = .none
    log.warning("\(machine): machinectl does not show it: systemd-machined: \(printable(reason))")
  }

  /// Takes the entry away, where there is one, and calls back; soon in any case, and at once where there is none.
  func end(_ machine: MachineName, _ completion: @escaping () -> Void) {
    switch state {
    case .none, .abandoned: return completion()
    case .asked:
      state = .abandoned
      return completion()
    case .registered: break
    }
    state = .none
    guard let bus = host.manager?.bus, bus.kind == .daemon else { return completion() }
    unregister(machine, on: bus, completion)
  }

  private func unregister(_ machine: MachineName, on bus: Bus, _ completion: @escaping () -> Void) {
    state = .none
    bus.call(
      Self.name, Self.path, Self.interface, "UnregisterMachine", timeout: Self.lastTimeout,
      arguments: { message throws(BusError) in try message.append(machine.description) },
      completion: { [weak self] result in
        // One that is gone has taken the entry with it.
        if case .failure(let error) = result {
          self?.log.warning("\(machine): systemd-machined: \(printable(error.description))")
        }
        completion()
      })
  }
}
