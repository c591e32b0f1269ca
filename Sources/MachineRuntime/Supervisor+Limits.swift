import Linux
import MachineSpec
import Varlink

/// What happens at a machine's limits.
extension Supervisor {
  /// Tells what happened at the machine's limits, in its log as well: there is whoever looks for a cause.
  func note(event: String, _ details: JSON) {
    log.notice("\(name): \(event) \(details.compact)")
    tell(event: event, details: details)
  }

  /// Watches for processes that the kernel kills for want of memory, as long as this run of the machine lasts.
  func watchMemory() {
    guard let host, let record else { return }
    do {
      memoryWatch = try MemoryWatch(
        host.scope.group, uids: record.range.base..<record.range.base + record.range.count, on: loop
      ) { [unowned self] count, victim in ranOutOfMemory(count, victim) }
    } catch {
      log.error("\(name): its memory cannot be watched: \(error)")
    }
  }

  private func ranOutOfMemory(_ count: UInt64, _ victim: OOMVictim) {
    let policy = spec.resources.oomPolicy
    func text(_ value: String?) -> JSON { value.map { .string(printable($0, limit: 256)) } ?? .null }
    note(
      event: "oom",
      [
        "killed": JSON(count), "process": text(victim.process), "pid": victim.id.map { JSON($0) } ?? .null,
        "unit": text(victim.unit), "policy": .string(policy?.rawValue ?? "machine"),
      ])
    switch policy {
    case .stop: stop(.poweroff)
    // By us and not by memory.oom.group: the machine could switch that off in its own group, and on the group above it
    // would end the supervisor as well.
    case .kill: stop(.terminate)
    case .continue, nil: break
    }
  }
}
