import MachineSpec

extension CgroupFacts {
  /// A group that machines could be made in instead of our own.
  public struct Group: Sendable, Equatable {
    /// Its folder.
    public var path: String
    /// Controllers that it has.
    public var controllers: [String]
    /// Controllers that groups in it have already.
    public var enabled: [String]
    /// Whether it may pass on more of its own: the kernel lets a group with processes pass on none, but for the topmost.
    public var canEnable: Bool

    /// What is known of a group.
    public init(path: String, controllers: [String], enabled: [String], canEnable: Bool) {
      self.path = path
      self.controllers = controllers
      self.enabled = enabled
      self.canEnable = canEnable
    }

    /// What groups in it can have.
    var offered: [String] { canEnable ? controllers : enabled }
  }

  /// Our own group, as one that machines are made in.
  var ownGroup: Group { Group(path: own, controllers: controllers, enabled: enabled, canEnable: canEnable) }
}

extension Planner {
  /// Those that every machine gets where they can be had, so that a limit can be set later and `top` has something to
  /// show, and so that the machine's systemd can use them.
  static let usefulControllers = ["cpu", "io", "memory", "pids"]

  /// Decides where the machine's group is made, and the limits on it. Our own group is the first choice; whoever starts
  /// machines is a process in it, though, so unless it is the topmost it passes on only what it did already. Then the
  /// group above it does, where that is ours to use.
  mutating func decideLimits() throws(PlanError) {
    place = host.cgroup.own
    limits = try spec.resources.limits(on: host.capacity)
    let needed = spec.resources.controllersNeeded
    let groups = [host.cgroup.ownGroup] + (host.cgroup.above.map { [$0] } ?? [])
    for group in groups where needed.allSatisfy({ group.offered.contains($0.controller) }) {
      place = group.path
      let wanted = Self.usefulControllers + needed.map(\.controller)
      controllers = Set(wanted.filter(group.offered.contains)).sorted()
      return
    }
    let own = host.cgroup.own
    guard let missing = needed.first(where: { !host.cgroup.ownGroup.offered.contains($0.controller) }) else { return }
    if host.cgroup.controllers.contains(missing.controller) {
      throw PlanError(
        "\(missing.key)= needs the \(missing.controller) controller, which the group \(own) cannot pass on: processes "
          + "are in it",
        advice: "mkdir \(own)/callers, write each number in \(own)/cgroup.procs to \(own)/callers/cgroup.procs, and "
          + "start it again", isHostsFault: true)
    }
    throw PlanError(
      "\(missing.key)= needs the \(missing.controller) controller, which the group \(own) has not",
      advice: "take it out of [Resources], or start from a group that has the controller", isHostsFault: true)
  }
}
