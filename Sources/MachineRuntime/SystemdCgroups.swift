import Glibc
import Linux
import MachinePlan
import MachineStore
import Systemd

/// Control groups on a host whose systemd keeps the tree: it is asked for a transient scope with `Delegate=yes`, or has
/// put this process into a service of that kind already. Below that unit's group everything is ours, above it nothing.
final class SystemdCgroups: CgroupBackend {
  let host: HostBus
  private let loop: EventLoop
  /// How long the machine may take to stop, in microseconds; the host's systemd gives it a little more.
  private let stopTimeout: UInt64?
  /// What the machine's files lie on: it is stopped before that is unmounted.
  private let files: String
  /// Called when the host's systemd asks for the end of the scope.
  private let onStopRequest: () -> Void
  private var job: UnitJob?
  private var stopRequest: BusMatch?

  /// In microseconds: how long the host's systemd may take for a job.
  private static let jobTimeout: UInt64 = 15_000_000
  static let slice = "henge.slice"

  init(
    host: HostBus, on loop: EventLoop, files: String, stopTimeout: UInt64?, onStopRequest: @escaping () -> Void
  ) {
    self.host = host
    self.loop = loop
    self.files = files
    self.stopTimeout = stopTimeout
    self.onStopRequest = onStopRequest
  }

  func claim(_ plan: CgroupPlan, completion: @escaping (Result<CgroupPlan, Failure>) -> Void) {
    // The service that we are in was made for this machine.
    guard plan.keeper == .scope else { return limit(plan, completion) }
    host.open { [weak self] result in
      guard let self else { return }
      switch result {
      case .success(let manager): start(plan, manager, attempts: 2, completion)
      case .failure(let failure):
        completion(
          .failure(
            Failure(
              "make the scope", plan.name, "\(failure.operation) \(failure.subject ?? ""): \(failure.reason)",
              advice: "look at 'systemctl status' and 'systemctl status dbus'", kind: .refused)))
      }
    }
  }

  private func start(
    _ plan: CgroupPlan, _ manager: Manager, attempts: Int,
    _ completion: @escaping (Result<CgroupPlan, Failure>) -> Void
  ) {
    let properties = properties(of: plan, manager)
    job = UnitJob(manager, unit: plan.name, on: loop, timeout: Self.jobTimeout) {
      manager.startTransientUnit(plan.name, properties, $0)
    } completion: { [weak self] result in
      guard let self else { return }
      switch result {
      case .success:
        stopRequest = try? manager.stopRequested { [weak self] in self?.onStopRequest() }
        limit(plan, completion)
      case .failure(let error) where error.name == "org.freedesktop.systemd1.UnitExists" && attempts > 1:
        // Of the start before, whose supervisor was the last in it and has just ended.
        post { [weak self] in
          self?.stop(plan, manager) { self?.start(plan, manager, attempts: attempts - 1, completion) }
        }
      case .failure(let error):
        completion(
          .failure(
            Failure(
              "make the scope", plan.name, printable(error.description), advice: host.adviceOnScopes, kind: .refused)))
      }
    }
  }

  private func stop(_ plan: CgroupPlan, _ manager: Manager, _ next: @escaping () -> Void) {
    job = UnitJob(manager, unit: plan.name, on: loop, timeout: Self.jobTimeout) {
      manager.stopUnit(plan.name, $0)
    } completion: { [weak self] _ in
      // It may be gone by itself meanwhile; whether it is, the next attempt shows.
      self?.post(next)
    }
  }

  private func properties(of plan: CgroupPlan, _ manager: Manager) -> [UnitProperty] {
    var result = [
      UnitProperty("Description", .text(plan.title)), UnitProperty("Slice", .text(Self.slice)),
      UnitProperty("Delegate", .flag(true)), UnitProperty("PIDs", .numbers([UInt32(getpid())])),
      // A scope that failed is of no use to anybody, and would be in the way of the next one.
      UnitProperty("CollectMode", .text("inactive-or-failed")),
      UnitProperty("TimeoutStopUSec", .number(stopTimeout.map { $0 &+ 15_000_000 } ?? .max)),
      // More than any system needs, and an end to those that fork without end.
      UnitProperty("TasksMax", .number(16384)),
      // So that on the way down the machine stops before what it is asked over, and what it talks with.
      UnitProperty("After", .texts(["dbus.service", "dbus.socket", "network.target"])),
      UnitProperty("RequiresMountsFor", .texts([files])),
    ]
    // Asked to stop the scope, systemd asks us, and does not signal each process of the machine's.
    if let name = manager.bus.uniqueName { result.append(UnitProperty("Controller", .text(name))) }
    return result
  }

  /// Where the unit's group really is, by the kernel's word.
  static func located(_ plan: CgroupPlan) -> Result<CgroupPlan, Failure> {
    do throws(Failure) {
      let own = try CgroupFacts.own(below: plan.mount)
      let parts = own.split(separator: "/")
      guard let index = parts.lastIndex(where: { $0 == plan.name }), index > 0 else {
        throw Failure("use", plan.name, "the host's systemd has put this process into \(own)", kind: .refused)
      }
      var plan = plan
      plan.parent = "/" + parts[..<index].joined(separator: "/")
      return .success(plan)
    } catch {
      return .failure(error)
    }
  }

  func make(
    _ plan: CgroupPlan, undo: UndoStack, note: (String) throws(Failure) -> Void
  ) throws(Failure) -> CgroupScope {
    let path = "\(plan.parent)/\(plan.name)"
    try note(path)
    // The unit goes when this process, the last one in it, ends: that is the systemd's to do.
    undo.push { [self] in try? clearGroup("\(path)/payload") }
    try clearGroup("\(path)/payload")
    let group = try CgroupDirectory(opening: path)
    let supervisor = try group.child("supervisor")
    // Controllers are for groups without processes of their own only.
    try supervisor.write("cgroup.procs", "0")
    for controller in (try group.read("cgroup.controllers") ?? "").split(whereSeparator: \.isWhitespace) {
      // Such as cpuset on a host that has processes bound to one: the machine has one controller less.
      try? group.write("cgroup.subtree_control", "+\(controller)")
    }
    try group.write("cgroup.max.depth", "\(plan.maxDepth)")
    try group.write("cgroup.max.descendants", "\(plan.maxDescendants)")
    let scope = CgroupScope(group: group, supervisor: supervisor, payload: try delegatedPayload(in: group, plan))
    scope.show(plan.limits)
    return scope
  }

  /// It is there already.
  func enter(_ scope: CgroupScope) throws(Failure) {}

  private func post(_ body: @escaping () -> Void) {
    do {
      try loop.post(body)
    } catch {
      body()
    }
  }
}

extension HostBus {
  /// A user's manager takes processes out of the user's sessions by asking the host's, whose bus it may have lost; what
  /// it starts itself is its own.
  fileprivate var adviceOnScopes: String {
    if case .user = keeper { return "look at 'journalctl --user'; 'hengectl enable' has that systemd start it itself" }
    return "look at 'journalctl -b'"
  }
}
