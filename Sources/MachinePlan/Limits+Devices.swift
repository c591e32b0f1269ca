import MachineSpec

extension ResourcesSection {
  /// `DeviceAllow=` as a limit: a property that the host's systemd makes a BPF program of, for which there is no file.
  ///
  /// - Parameter host: whether that systemd can.
  /// - Throws: `PlanError` where there is none that can.
  func deviceLimit(on host: HostCapacity) throws(PlanError) -> Limit? {
    guard !deviceAllow.isEmpty else { return nil }
    guard host.keepsDevices else {
      throw PlanError(
        "DeviceAllow= is a BPF program on the control group, which only a systemd that is the host's process 1 loads, "
          + "and none of that kind made this group",
        advice: "take it out: no device node works in a machine but the usual ones",
        isHostsFault: true)
    }
    return Limit(
      key: "DeviceAllow", controller: "", writes: [], resets: [],
      property: LimitProperty(name: "DeviceAllow", value: .devices(deviceAllow)),
      unsetProperty: LimitProperty(name: "DeviceAllow", value: .devices([])))
  }
}

extension LimitProperty {
  /// What our own processes in the unit need beside the machine's devices: to make the nodes that a machine may have,
  /// the forwarder's end of the network, and the kernel's log, which tells who was killed for want of memory. No node of
  /// the latter is in a machine.
  static let ownDevices = [
    (node: "/dev/net/tun", access: "rwm"), (node: "/dev/fuse", access: "m"), (node: "/dev/kmsg", access: "r"),
  ]

  /// The rules that systemd is given for `DeviceAllow=`, which are added to nothing.
  ///
  /// Of two rules for one node systemd takes the last, so each node has one, with all that is allowed. Where nothing was
  /// asked everything is allowed in words: systemd does not take its program off a group whose last rule goes.
  ///
  /// - Parameter asked: what the spec says.
  /// - Returns: nodes, or patterns of them, each with some of `rwm`.
  public static func deviceRules(_ asked: [DeviceRule]) -> [(node: String, access: String)] {
    guard !asked.isEmpty else { return [(node: "char-*", access: "rwm"), (node: "block-*", access: "rwm")] }
    var rules: [(node: String, access: String)] = []
    for rule in asked.map({ (node: $0.name, access: $0.access) }) + ownDevices {
      if let index = rules.firstIndex(where: { $0.node == rule.node }) {
        let both = rules[index].access + rule.access
        rules[index].access = "rwm".filter(both.contains)
      } else {
        rules.append(rule)
      }
    }
    return rules
  }
}
