import Glibc
import Linux
import MachinePlan

extension HostFacts {
  /// Looks at this host. Reads a handful of small files; nothing is changed.
  ///
  /// - Parameter folder: a folder on the file system that holds the machine's files; nil where that it maps ids is known.
  public static func probe(for folder: Descriptor?) throws(Failure) -> HostFacts {
    var facts = HostFacts()
    var name = utsname()
    uname(&name)
    facts.kernelRelease = withUnsafePointer(to: &name.release) {
      $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) }
    }
    facts.architecture = try ownArchitecture()
    facts.osRelease = readOrEmpty("/etc/os-release", or: "/usr/lib/os-release")
    // A user's namespace sees a journal that is not the user's.
    facts.keepsJournal = access("/var/log/journal", W_OK) == 0
    facts.privilege = !Capabilities.has("CAP_SYS_ADMIN") ? .user : try OwnIDs.current().isWhole ? .root : .namespaceRoot
    facts.capabilityCount = Capabilities.count
    facts.timezone = timezone()
    facts.hasLocaltime = access("/etc/localtime", F_OK) == 0
    facts.canMapIDs = facts.privilege != .user && (folder.map { Linux.canMapIDs(of: $0) } ?? true)
    facts.manager = HostManager.probe()
    let mounts = try MountTable().mounts
    facts.coversKernel = covered(mounts)
    facts.hasReadOnlySysfs = mounts.allSatisfy { $0.filesystem != "sysfs" || $0.options.contains("ro") }
    facts.cgroup = try CgroupFacts.probe(mounts, manager: facts.manager)
    facts.network = NetworkFacts.probe()
    return facts
  }

  /// This program runs on this host: its own ELF header says what the host's programs look like.
  private static func ownArchitecture() throws(Failure) -> UInt16 {
    let header = try Descriptor.open("/proc/self/exe").readHead(20, subject: "/proc/self/exe")
    guard header.count == 20 else { throw Failure("read", "/proc/self/exe", "it has no ELF header") }
    return UInt16(header[18]) | UInt16(header[19]) << 8
  }

  /// Folders of the kernel's that are there to be mounted on hide nothing.
  private static func covered(_ mounts: [MountTable.Mount]) -> Bool {
    let isReadOnly = ["/proc", "/sys"].contains { path in
      mounts.last { $0.target == path }?.options.contains("ro") ?? false
    }
    return isReadOnly
      || mounts.contains { mount in
        mount.target.hasPrefix("/proc/") && mount.target != "/proc/sys/fs/binfmt_misc"
          || mount.target.hasPrefix("/sys/") && mount.target != "/sys/fs/cgroup" && mount.filesystem == "tmpfs"
      }
  }

  private static func readOrEmpty(_ paths: String, or other: String) -> [UInt8] {
    for path in [paths, other] {
      if let bytes = try? Descriptor.open(path).readAll(limit: 65536, subject: path) { return bytes }
    }
    return []
  }

  private static func timezone() -> String? {
    guard let target = Descriptor.currentDirectory.linkTarget("/etc/localtime") else { return nil }
    let parts = target.split(separator: "/")
    guard let start = parts.firstIndex(of: "zoneinfo"), start + 1 < parts.endIndex else {
      return nil
    }
    let zone = parts[(start + 1)...]
    return zone.contains("..") ? nil : zone.joined(separator: "/")
  }
}

extension HostManager {
  /// A process 1 that is ours to ask is one of our own root's: seen from a user namespace that stands for an ordinary
  /// user, it belongs to nobody.
  static func probe() -> HostManager {
    guard access("/run/systemd/system", F_OK) == 0 else { return .none }
    if let status = try? Descriptor.open("/proc/1", [.path, .directory]).status(), status.uid == 0, geteuid() == 0 {
      let path = "/proc/1/comm"
      let name = (try? Descriptor.open(path).readAll(limit: 64, subject: path)) ?? []
      return name.starts(with: "systemd\n".utf8) ? .system : .none
    }
    guard let text = getenv("XDG_RUNTIME_DIR") else { return .none }
    let runtime = String(cString: text)
    return access("\(runtime)/systemd/private", F_OK) == 0 ? .user(runtime: runtime) : .none
  }
}

extension HostManager {
  /// The group below which a manager makes its units; a session of a user's is beside that, and not below.
  fileprivate func group(below mount: String, from own: String) -> String {
    guard case .user(let runtime) = self else { return mount }
    let parts = own.split(separator: "/")
    if let index = parts.firstIndex(where: { $0.hasPrefix("user@") && $0.hasSuffix(".service") }) {
      return "/" + parts[...index].joined(separator: "/")
    }
    let uid = runtime.split(separator: "/").last ?? ""
    let usual = "\(mount)/user.slice/user-\(uid).slice/user@\(uid).service"
    return access(usual, F_OK) == 0 ? usual : mount
  }
}

extension CgroupFacts {
  /// Where control groups of version 2 are mounted, and where in them this process is.
  static func probe(_ mounts: [MountTable.Mount], manager: HostManager) throws(Failure) -> CgroupFacts {
    var facts = CgroupFacts()
    // The last mount on a place is the one in sight; the standard place counts before others.
    let candidates = mounts.filter { $0.filesystem == "cgroup2" }
    guard let mount = candidates.last(where: { $0.target == "/sys/fs/cgroup" }) ?? candidates.last else { return facts }
    facts.layout = mount.target == "/sys/fs/cgroup" ? .unified : .hybrid
    facts.mount = mount.target
    facts.isReadOnly = mount.options.contains("ro")
    facts.delegatesToNamespaces = mount.options.contains("nsdelegate")

    do {
      facts.own = try own(below: mount.target)
    } catch {
      facts.layout = .missing
      return facts
    }
    // What keeps the controllers of a group that is not there yet is its nearest relation that is.
    var relation = facts.own
    if let service = service(facts.own) {
      facts.keeper = .service(service.name)
      facts.own = service.parent
      relation = "\(service.parent)/\(service.name)"
    } else if manager != .none {
      facts.keeper = .scope
      relation = manager.group(below: mount.target, from: facts.own)
      facts.own = "\(relation)/\(SystemdCgroups.slice)"
    } else if facts.own.split(separator: "/").contains("..") {
      // Who came into a machine from outside is in a group that is not in sight there.
      facts.isOurs = false
      return facts
    } else {
      facts.isOurs = access(facts.own, W_OK) == 0 && access("\(facts.own)/cgroup.procs", W_OK) == 0
    }
    let group = try CgroupDirectory(opening: relation)
    facts.controllers = (try group.read("cgroup.controllers") ?? "").split { $0 == " " || $0 == "\n" }.map(String.init)
    try facts.probeGroups(group)
    facts.delegatedFiles = try delegatedFiles()
    return facts
  }

  /// The folder of this process's own group.
  static func own(below mount: String) throws(Failure) -> String {
    let path = "/proc/self/cgroup"
    let lines = String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
    guard let line = lines.split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else {
      throw Failure("find", "this process's control group", "it has none of version 2")
    }
    let own = line.dropFirst(3)
    return own == "/" ? mount : mount + own
  }

  /// The service of ours that a group is of, or below of: `henge@NAME.service`.
  private static func service(_ group: String) -> (parent: String, name: String)? {
    let parts = group.split(separator: "/")
    guard let index = parts.lastIndex(where: { $0.hasPrefix("henge@") && $0.hasSuffix(".service") }), index > 0
    else { return nil }
    return ("/" + parts[..<index].joined(separator: "/"), String(parts[index]))
  }

  private static func delegatedFiles() throws(Failure) -> [String] {
    let path = "/sys/kernel/cgroup/delegate"
    let text = String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
    return text.split(separator: "\n").map(String.init)
  }
}
