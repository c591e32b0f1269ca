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
    facts.keepsJournal = access("/var/log/journal", F_OK) == 0
    facts.privilege = Capabilities.has("CAP_SYS_ADMIN") ? .root : .user
    facts.capabilityCount = Capabilities.count
    facts.timezone = timezone()
    facts.hasLocaltime = access("/etc/localtime", F_OK) == 0
    facts.canMapIDs = facts.privilege == .root && (folder.map { Linux.canMapIDs(of: $0) } ?? true)
    facts.cgroup = try CgroupFacts.probe()
    facts.network = NetworkFacts.probe()
    return facts
  }

  /// This program runs on this host: its own ELF header says what the host's programs look like.
  private static func ownArchitecture() throws(Failure) -> UInt16 {
    let header = try Descriptor.open("/proc/self/exe").readHead(20, subject: "/proc/self/exe")
    guard header.count == 20 else { throw Failure("read", "/proc/self/exe", "it has no ELF header") }
    return UInt16(header[18]) | UInt16(header[19]) << 8
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

extension CgroupFacts {
  /// Where control groups of version 2 are mounted, and where in them this process is.
  static func probe() throws(Failure) -> CgroupFacts {
    var facts = CgroupFacts()
    let mounts = try MountTable().mounts
    // The last mount on a place is the one in sight; the standard place counts before others.
    let candidates = mounts.filter { $0.filesystem == "cgroup2" }
    guard let mount = candidates.last(where: { $0.target == "/sys/fs/cgroup" }) ?? candidates.last else { return facts }
    facts.layout = mount.target == "/sys/fs/cgroup" ? .unified : .hybrid
    facts.mount = mount.target
    facts.delegatesToNamespaces = mount.options.contains("nsdelegate")

    let path = "/proc/self/cgroup"
    let lines = String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
    guard let line = lines.split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else {
      facts.layout = .missing
      return facts
    }
    let own = line.dropFirst(3)
    facts.own = own == "/" ? mount.target : mount.target + own
    let group = try CgroupDirectory(opening: facts.own)
    facts.controllers = (try group.read("cgroup.controllers") ?? "").split { $0 == " " || $0 == "\n" }.map(String.init)
    facts.delegatedFiles = try delegatedFiles()
    return facts
  }

  private static func delegatedFiles() throws(Failure) -> [String] {
    let path = "/sys/kernel/cgroup/delegate"
    let text = String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
    return text.split(separator: "\n").map(String.init)
  }
}
