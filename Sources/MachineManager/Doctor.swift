import Glibc
import Linux
import MachineStore
import Rootless
import Varlink

/// What this host has, and what it lacks.
extension MachineManager {
  /// One thing that was looked at.
  public struct Finding: Sendable {
    /// What was looked at.
    public var subject: String
    /// What was found.
    public var text: String
    /// Whether it is as it should be.
    public var isGood: Bool
    /// Whether no machine can do without it.
    public var isNeeded: Bool
    /// The one command that mends it.
    public var mend: String?
  }

  /// Looks at the kernel, control groups, ids, file systems, devices and tools. Changes nothing.
  public func examine() throws(Failure) -> [Finding] {
    let folder = access(store.places.state, F_OK) == 0 ? store.places.state : "/"
    let facts: JSON
    do {
      facts = try askSupervisorProgram(["--probe", folder])
    } catch {
      // In a container the findings say why, and which option helps.
      guard engine != nil else { throw error }
      return container(nil)
    }
    return kernel(facts) + container(facts) + user(facts) + cgroups(facts) + files(facts, folder) + ids(facts)
      + devices() + forwarders()
      + tools()
  }

  private func kernel(_ facts: JSON) -> [Finding] {
    let release = facts["kernel"]?.stringValue ?? ""
    let numbers = release.split { $0 == "." || $0 == "-" }.prefix(2).compactMap { Int($0) }
    // 6.8 takes layers of an overlay one by one, which is how they are mapped before they are merged.
    let isNew = numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 8)
    let privilege = facts["privilege"]?.stringValue
    let isRoot = privilege == "root" || privilege == "namespace-root"
    let rights =
      switch (privilege, ordinaryUser) {
      case ("root", _): "root, with CAP_SYS_ADMIN"
      case ("namespace-root", let user?): "root of the namespace of the user \(user.label)"
      case ("namespace-root", nil): "root of a machine or container"
      case (_, let user?): "the user \(user.label), without a namespace of the user's own"
      default: "root without CAP_SYS_ADMIN"
      }
    let spaces = readNumber("/proc/sys/user/max_user_namespaces") ?? 0
    return [
      Finding(
        subject: "kernel", text: isNew ? release : "\(release) is older than 6.8", isGood: isNew, isNeeded: true,
        mend: isNew ? nil : "apt-get install linux-image-amd64/bookworm-backports"),
      Finding(
        subject: "privilege", text: rights, isGood: isRoot, isNeeded: true,
        // For a user and in a container the lines below say what is missing.
        mend: isRoot || ordinaryUser != nil || engine != nil ? nil : "start it with CAP_SYS_ADMIN"),
      Finding(
        subject: "user namespaces", text: "\(spaces) allowed", isGood: spaces > 0, isNeeded: true,
        mend: spaces > 0 ? nil : "sysctl -w user.max_user_namespaces=15000"),
    ]
  }

  private func cgroups(_ facts: JSON) -> [Finding] {
    let layout = facts["cgroupLayout"]?.stringValue ?? "missing"
    let mount = facts["cgroupMount"]?.stringValue ?? ""
    let isThere = layout != "missing"
    var findings = [
      Finding(
        subject: "control groups", text: isThere ? "version 2 at \(mount) (\(layout))" : "version 2 is not mounted",
        isGood: isThere, isNeeded: true, mend: isThere ? nil : "mount -t cgroup2 none /sys/fs/cgroup")
    ]
    guard isThere else { return findings }
    if !(facts["cgroupIsOurs"]?.boolValue ?? true), !(facts["cgroupIsReadOnly"]?.boolValue ?? false),
      ordinaryUser == nil, engine != nil
    {
      let root = (try? OwnIDs.current())?.rootOutside ?? 0
      findings.append(
        Finding(
          subject: "control groups", text: "the container's own is not its root's to make groups in", isGood: false,
          isNeeded: true, mend: "on the host: chown \(root):\(root) the container's group and its cgroup.* files"))
    }
    if facts["cgroupIsReadOnly"]?.boolValue ?? false {
      findings.append(
        Finding(
          subject: "control groups", text: "are mounted read-only", isGood: false, isNeeded: true,
          mend: ordinaryUser == nil
            ? "mount -o remount,bind,rw \(mount)"
            : engine == "podman" ? "podman run --security-opt unmask=\(mount) …" : "have root mount them read-write"))
    }
    let delegates = facts["nsdelegate"]?.boolValue ?? false
    findings.append(
      Finding(
        subject: "nsdelegate",
        text: delegates ? "on" : "off: machines are confined by the ownership of their files alone", isGood: delegates,
        isNeeded: false,
        mend: delegates ? nil : (engine == nil ? "" : "on the host: ") + "mount -o remount,nsdelegate \(mount)"))
    let controllers = facts["controllers"]?.arrayValue?.compactMap(\.stringValue) ?? []
    let missing = ["cpu", "io", "memory", "pids"].filter { !controllers.contains($0) }
    findings.append(
      Finding(
        subject: "controllers",
        text: missing.isEmpty
          ? controllers.joined(separator: ", ")
          : "\(missing.joined(separator: ", ")) missing: [Resources] cannot limit them"
            + (missing.contains("pids") ? ", and Podman in machines wants --pids-limit=0" : ""),
        isGood: missing.isEmpty, isNeeded: false,
        mend: missing.isEmpty ? nil : "boot the host with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"))
    return findings
  }

  private func files(_ facts: JSON, _ folder: String) -> [Finding] {
    let maps = facts["mapsIDs"]?.boolValue ?? false
    if !maps, facts["privilege"]?.stringValue != "root" {
      return [
        Finding(
          subject: "idmapped mounts",
          text: "are the host's root's: every machine made from an image has a copy of its files", isGood: true,
          isNeeded: false, mend: nil)
      ]
    }
    return [
      Finding(
        subject: "idmapped mounts", text: maps ? "work at \(folder)" : "do not work at \(folder)", isGood: maps,
        isNeeded: false, mend: maps ? nil : "hengectl create -s PrivateUsersOwnership=chown IMAGE NAME")
    ] + otherFileSystems(than: folder)
  }

  /// The other disks of this host that an operator may put machines on.
  private func otherFileSystems(than folder: String) -> [Finding] {
    let kinds: Set<Substring> = ["ext4", "xfs", "btrfs", "f2fs", "tmpfs", "zfs"]
    guard let bytes = try? Descriptor.open("/proc/self/mounts").readAll(limit: 4 << 20, subject: "mounts") else {
      return []
    }
    var seen = Set<Substring>()
    var findings: [Finding] = []
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 2, kinds.contains(fields[2]), seen.insert(fields[2]).inserted,
        let place = try? Descriptor.open(String(fields[1]), [.path, .directory])
      else { continue }
      let maps = canMapIDs(of: place)
      findings.append(
        Finding(
          subject: "idmapped mounts on \(fields[2])", text: "\(maps ? "work" : "do not work") (\(fields[1]))",
          isGood: maps, isNeeded: false, mend: nil))
    }
    return findings
  }

  private func ids(_ facts: JSON) -> [Finding] {
    // Outside of the user's namespace there are no ids to count.
    if facts["privilege"]?.stringValue == "user" { return [] }
    do {
      let free = try store.countFreeRanges()
      return [
        Finding(
          subject: "uid ranges", text: "\(free) of 65536 ids each are free", isGood: free > 0, isNeeded: true,
          mend: free > 0 ? nil : moreIDs)
      ]
    } catch {
      return [
        Finding(subject: "uid ranges", text: error.description, isGood: false, isNeeded: true, mend: nil)
      ]
    }
  }

  private var moreIDs: String {
    if let user = ordinaryUser { return SubordinateIDs.command(for: user) }
    if let engine { return "give the container ids for machines: \(Self.ownIDs(engine))" }
    return "hengectl remove NAME"
  }

  private func devices() -> [Finding] {
    [("/dev/net/tun", "VPNs and forwarders"), ("/dev/fuse", "FUSE file systems")].map { path, purpose in
      let status = try? Descriptor.open(path, [.path, .noFollow]).status()
      let isOpen = status.map { $0.mode & 0o006 == 0o006 } ?? false
      // The host's root makes a node for each machine; who cannot make one binds the host's.
      if status != nil, (try? OwnIDs.current().isWhole) ?? false {
        return Finding(subject: path, text: "there", isGood: true, isNeeded: false, mend: nil)
      }
      let text = status == nil ? "is not there" : isOpen ? "open to all" : "for the host's root only"
      return Finding(
        subject: path, text: isOpen ? text : "\(text): \(purpose) in machines cannot use it", isGood: isOpen,
        isNeeded: false,
        mend: isOpen
          ? nil
          : status == nil && engine != nil
            ? "\(engine ?? "") run --device=\(path) …"
            : status == nil ? "modprobe \(path == "/dev/fuse" ? "fuse" : "tun")" : "chmod 0666 \(path)")
    }
  }

  private func forwarders() -> [Finding] {
    let isThere = ["slirp4netns", "pasta"].filter { access("/usr/bin/\($0)", X_OK) == 0 }
    return [
      Finding(
        subject: "forwarder",
        text: isThere.isEmpty
          ? "neither slirp4netns nor pasta is installed: machines do not start with Mode=user"
          : isThere.joined(separator: ", "), isGood: !isThere.isEmpty, isNeeded: false,
        mend: isThere.isEmpty ? "apt-get install slirp4netns" : nil)
    ]
  }

  private func tools() -> [Finding] {
    [
      ("mmdebstrap", "mmdebstrap", "images/build makes the guest images with it"),
      ("nft", "nftables", "machines do not start with Mode=veth"),
    ].map { tool, package, purpose in
      let isThere = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].contains { access("\($0)/\(tool)", X_OK) == 0 }
      return Finding(
        subject: tool, text: isThere ? "installed" : "not installed: \(purpose)", isGood: isThere, isNeeded: false,
        mend: isThere ? nil : "apt-get install \(package)")
    }
  }

  func readNumber(_ path: String) -> Int? {
    guard let bytes = try? Descriptor.open(path).readAll(limit: 64, subject: path) else { return nil }
    return Int(String(decoding: bytes, as: UTF8.self).prefix { $0.isNumber })
  }
}
