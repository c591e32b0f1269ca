import Linux
import MachinePlan
import MachineSpec
import Varlink

/// `AutoScale=`: limits that move by themselves.
extension Supervisor {
  /// Watches anew by what the spec and the limits say now; nothing without a policy.
  func startAutoScale() {
    autoScalers = []
    guard let host, let limits = plan?.group?.limits else { return }
    for policy in spec.resources.autoScale {
      let key = policy.subject.rawValue
      guard case .number(let number)? = limits.first(where: { $0.key == key })?.property.value else { continue }
      // A quota's property is microseconds a second, a hundredth of a percent is a hundred of them.
      let value = policy.subject == .cpuQuota ? number / 100 : number
      do {
        autoScalers.append(
          try AutoScaler(policy, from: value, in: host.scope.group, on: loop) { [unowned self] in scale($0, $1, $2, $3)
          })
      } catch {
        log.error("\(name): AutoScale= of \(key)= does not work: \(error)")
      }
    }
  }

  private func scale(_ policy: AutoScale, _ from: UInt64, _ to: UInt64, _ done: @escaping (Bool) -> Void) {
    let key = policy.subject.rawValue
    guard !isChangingLimits, let host, let old = plan?.group?.limits,
      let limit = old.first(where: { $0.key == key })?.scaled(policy, to: to)
    else { return done(false) }
    let new = old.map { $0.replaces(limit) ? limit : $0 }
    isChangingLimits = true
    cgroups.apply(Limit.changes(from: old, to: new), to: host.scope) { [weak self] result in
      guard let self else { return }
      isChangingLimits = false
      defer { limitsChanged() }
      switch result {
      case .success:
        plan?.group?.limits = new
        note(
          event: "autoscale",
          [
            "key": .string(key), "from": .string(policy.text(from)), "to": .string(policy.text(to)),
            "why": .string(to > from ? "pressure" : "calm"),
          ])
        done(true)
      case .failure(let failure):
        log.error("\(name): \(failure)")
        done(false)
      }
    }
  }
}

extension Limit {
  /// The same limit with another number.
  fileprivate func scaled(_ policy: AutoScale, to value: UInt64) -> Limit? {
    var resources = ResourcesSection()
    switch policy.subject {
    case .memoryHigh: resources.memoryHigh = .bytes(value)
    case .cpuQuota: resources.cpuQuota = Percentage(hundredths: UInt32(clamping: value))
    }
    return try? resources.limits(on: HostCapacity()).first
  }
}
