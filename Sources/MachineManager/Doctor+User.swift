import Glibc
import Linux
import Rootless
import Varlink

/// What an ordinary user needs besides what every host does.
extension MachineManager {
  /// Whom machines are run for, when that is an ordinary user: this process may be the root of the user's namespace.
  var ordinaryUser: OrdinaryUser? {
    if geteuid() != 0 { return .current() }
    guard let own = try? OwnIDs.current(), own.standsForUser, let uid = own.rootOutside,
      let gid = own.groups.first(where: { $0.inside == 0 })?.outside
    else { return nil }
    return .of(uid: uid, gid: gid)
  }

  /// Looks at what the administrator has given the user. Nothing for root.
  func user(_ facts: JSON) -> [Finding] {
    guard let user = ordinaryUser else { return [] }
    return namespaces(user) + [subordinateIDs(user)] + helpers() + linger(user) + [delegation(facts, user)]
  }

  private func namespaces(_ user: OrdinaryUser) -> [Finding] {
    // Each is there on some distributions only.
    let switches: [(path: String, bad: Int, mend: String)] = [
      ("kernel/unprivileged_userns_clone", 0, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
      (
        "kernel/apparmor_restrict_unprivileged_userns", 1,
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
      ),
    ]
    return switches.compactMap { path, bad, mend in
      guard let value = readNumber("/proc/sys/\(path)") else { return nil }
      let name = path.split(separator: "/").joined(separator: ".")
      return Finding(
        subject: "user namespaces for users",
        text: value == bad ? "\(name)=\(value) keeps \(user.label) from making one" : "\(name)=\(value)",
        isGood: value != bad, isNeeded: true, mend: value == bad ? mend : nil)
    }
  }

  private func subordinateIDs(_ user: OrdinaryUser) -> Finding {
    let ids = SubordinateIDs(of: user)
    let machines = ParentMap(of: user, ids).machines
    func sum(_ ranges: [UIDRange]) -> UInt64 { ranges.reduce(0) { $0 + UInt64($1.count) } }
    return Finding(
      subject: "subordinate ids",
      text: "\(user.label) has \(sum(ids.users)) of users and \(sum(ids.groups)) of groups, "
        + (machines == 0 ? "and a machine takes 65536" : "enough for \(machines) machine\(machines == 1 ? "" : "s")"),
      isGood: machines > 0, isNeeded: true, mend: machines > 0 ? nil : SubordinateIDs.command(for: user))
  }

  private func helpers() -> [Finding] {
    ["newuidmap", "newgidmap"].map { name in
      let isThere = ParentNamespace.helper(name) != nil
      return Finding(
        subject: name, text: isThere ? "installed" : "not installed", isGood: isThere, isNeeded: true,
        mend: isThere ? nil : "sudo apt-get install uidmap")
    }
  }

  /// Without it the user's systemd ends with the last session, and takes all that it started along.
  private func linger(_ user: OrdinaryUser) -> [Finding] {
    guard access("/run/systemd/system", F_OK) == 0 else { return [] }
    let lingers = access("/var/lib/systemd/linger/\(user.label)", F_OK) == 0
    return [
      Finding(
        subject: "linger", text: lingers ? "on" : "off: machines end when \(user.label) logs out", isGood: lingers,
        isNeeded: false, mend: lingers ? nil : "sudo loginctl enable-linger \(user.label)")
    ]
  }

  private func delegation(_ facts: JSON, _ user: OrdinaryUser) -> Finding {
    let group = facts["cgroup"]?.stringValue ?? ""
    let isOurs = facts["cgroupIsOurs"]?.boolValue ?? false
    let hasSystemd = access("/run/systemd/system", F_OK) == 0
    return Finding(
      subject: "delegated control group",
      text: isOurs ? group : "\(group.isEmpty ? "none" : group) is not \(user.label)'s to make groups in",
      isGood: isOurs, isNeeded: true,
      mend: isOurs
        ? nil
        : hasSystemd
          ? "sudo loginctl enable-linger \(user.label), and log in rather than su"
          : "have root make a group, chown it and its cgroup.* files to \(user.uid):\(user.gid), and start from there")
  }
}
