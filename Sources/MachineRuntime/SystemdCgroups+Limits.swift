import Glibc
import Linux
import MachinePlan
import Systemd

/// Limits as properties of the unit: what is written to the files of its group by anybody else, the host's systemd
/// would take back some day.
extension SystemdCgroups {
  /// Puts the plan's limits on the unit that is there by now, before anything of the machine's is in it.
  func limit(_ plan: CgroupPlan, _ completion: @escaping (Result<CgroupPlan, Failure>) -> Void) {
    var limits = plan.limits
    if case .service = plan.keeper, hasOldLimits(plan.name) {
      limits = Limit.all.map(\.reset).filter { reset in !plan.limits.contains(where: reset.replaces) } + limits
    }
    guard !limits.isEmpty else { return completion(Self.located(plan)) }
    set(limits, on: plan.name) { result in
      switch result {
      case .success: completion(Self.located(plan))
      case .failure(let failure): completion(.failure(failure))
      }
    }
  }

  func apply(
    _ changes: [Limit.Change], to scope: CgroupScope, _ done: @escaping (Result<Void, Failure>) -> Void
  ) {
    guard !changes.isEmpty else { return done(.success(())) }
    guard let unit = scope.group.path.split(separator: "/").last.map(String.init) else {
      return done(.failure(Failure("limit", scope.group.path, "it is no unit's group")))
    }
    let limits = changes.map(\.limit)
    set(limits, on: unit) { [self] result in
      do throws(Failure) {
        try result.get()
        // It may have given the group a controller that it had not before.
        let controllers = Set(limits.map(\.controller)).subtracting([""]).sorted()
        try? DirectCgroups.enable(controllers, in: scope.group, for: [])
        if let refused = limits.first(where: { !$0.holds(in: scope.group) }) {
          let back = changes.reversed().map(\.before)
          return set(back, on: unit) { _ in
            done(.failure(Failure("set \(refused.key)= of", unit, "the kernel does not take it", kind: .usage)))
          }
        }
        scope.show(limits)
        done(.success(()))
      } catch {
        done(.failure(error))
      }
    }
  }

  /// A service is the same one at each start, and systemd remembers what it was told until the host goes down.
  private func hasOldLimits(_ unit: String) -> Bool {
    var places = ["/run/systemd/system.control"]
    if let text = getenv("XDG_RUNTIME_DIR") { places.append("\(String(cString: text))/systemd/user.control") }
    return places.contains { access("\($0)/\(unit).d", F_OK) == 0 }
  }

  private func set(_ limits: [Limit], on unit: String, _ done: @escaping (Result<Void, Failure>) -> Void) {
    host.open { result in
      switch result {
      case .failure(let failure): done(.failure(failure))
      case .success(let manager):
        manager.setUnitProperties(unit, limits.flatMap { UnitProperty.all(of: $0.property) }) { result in
          if case .failure(let error) = result {
            return done(.failure(Failure("limit", unit, printable(error.description), kind: .refused)))
          }
          // The files are written before the next question is looked at: with its answer they hold.
          _ = manager.systemState { _ in done(.success(())) }
        }
      }
    }
  }
}

extension Limit {
  /// Whether the kernel took it, for what it may refuse: systemd does not tell.
  fileprivate func holds(in group: CgroupDirectory) -> Bool {
    for write in writes where write.file == "cpuset.cpus" && !write.value.isEmpty {
      guard let text = try? group.read(write.file) else { return false }
      if text.prefix(while: { $0 != "\n" }) != write.value { return false }
    }
    return true
  }
}

extension UnitProperty {
  /// A limit's, with its type on the bus. A list that is set is added to the one before, unless that is emptied first.
  fileprivate static func all(of property: LimitProperty) -> [UnitProperty] {
    func one(_ value: Value) -> UnitProperty { UnitProperty(property.name, value) }
    return switch property.value {
    case .number(let number): [one(.number(number))]
    case .bits(let bytes): [one(.bytes(bytes))]
    case .device(let path, let limit): [one(.amounts([Amount(path, limit)]))]
    case .devices(let rules):
      [one(.pairs([])), one(.pairs(LimitProperty.deviceRules(rules).map { Pair($0.node, $0.access) }))]
    }
  }
}
