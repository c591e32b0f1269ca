import Glibc
import Linux
import MachinePlan
import MachineSpec

extension CgroupFacts {
  /// What our own group and the one above it can pass on to a machine.
  mutating func probeGroups(_ group: CgroupDirectory) throws(Failure) {
    let found = try Self.group(group)
    enabled = found.enabled
    canEnable = found.canEnable
    // A systemd that makes the group gives it what it has itself.
    guard keeper == .nobody else {
      canEnable = true
      return
    }
    // Above our own only where it is below the mount, where nobody else keeps the tree, and where we may write.
    guard let slash = own.lastIndex(of: "/"), own.utf8.count > mount.utf8.count, access("/run/systemd/system", F_OK) < 0
    else { return }
    let path = String(own[..<slash])
    guard path.utf8.count >= mount.utf8.count, access(path, W_OK) == 0,
      access("\(path)/cgroup.procs", W_OK) == 0, access("\(path)/cgroup.subtree_control", W_OK) == 0
    else { return }
    above = try? Self.group(CgroupDirectory(opening: path))
  }

  private static func group(_ group: CgroupDirectory) throws(Failure) -> Group {
    func words(_ file: String) throws(Failure) -> [String] {
      (try group.read(file) ?? "").split { $0 == " " || $0 == "\n" }.map(String.init)
    }
    // The topmost group has no events; for it alone the kernel does not mind processes beside groups.
    let isTopmost = try group.descriptor.status(of: "cgroup.events") == nil
    let isEmpty = isTopmost ? false : try words("cgroup.procs").isEmpty
    return Group(
      path: group.path, controllers: try words("cgroup.controllers"), enabled: try words("cgroup.subtree_control"),
      canEnable: isTopmost || isEmpty)
  }
}

extension HostCapacity {
  /// Looks up what the limits of a spec are shares of, and the disks that they name.
  init(for resources: ResourcesSection, manager: HostManager, keeper: CgroupKeeper) {
    self.init()
    // In a user namespace nobody loads such programs, though a systemd there takes the property.
    keepsDevices = manager == .system && keeper != .nobody && (try? OwnIDs.current().isWhole) == true
    memory = Self.totalMemory()
    let files = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"]
    tasks = files.compactMap { UInt64(Self.text($0).prefix { $0 != "\n" }) }.min() ?? 0
    hasPressure = access("/proc/pressure/memory", R_OK) == 0
    let lists = [
      resources.ioReadBandwidthMax, resources.ioWriteBandwidthMax, resources.ioReadIOPSMax, resources.ioWriteIOPSMax,
    ]
    for limit in lists.joined() {
      let path = limit.device.description
      if disks[path] == nil { disks[path] = Self.disk(behind: path) }
    }
  }

  private static func text(_ path: String) -> String {
    let bytes = try? Descriptor.open(path).readAll(limit: 65536, subject: path)
    return String(decoding: bytes ?? [], as: UTF8.self)
  }

  private static func totalMemory() -> UInt64 {
    for line in text("/proc/meminfo").split(separator: "\n") where line.hasPrefix("MemTotal:") {
      let words = line.split(separator: " ")
      return words.count > 1 ? (UInt64(words[1]) ?? 0) << 10 : 0
    }
    return 0
  }

  /// The whole disk of a device node, or of the file system that a file is on: the kernel limits no partition. A file
  /// system over several disks, or over none, has no such number.
  private static func disk(behind path: String) -> String? {
    // The path is the operator's.
    guard let status = try? Descriptor.open(path, .path).status() else { return nil }
    let number: String
    if status.kind == .blockDevice {
      number = "\(status.major):\(status.minor)"
    } else {
      let device = status.device
      // The two numbers as glibc's makedev puts them together.
      let major = (device >> 8) & 0xfff | (device >> 32) & ~0xfff
      let minor = device & 0xff | (device >> 12) & ~0xff
      number = "\(major):\(minor)"
    }
    let folder = "/sys/dev/block/\(number)"
    guard access(folder, F_OK) == 0 else { return nil }
    guard access("\(folder)/partition", F_OK) == 0 else { return number }
    let whole = String(text("\(folder)/../dev").prefix { $0 != "\n" })
    return whole.isEmpty ? nil : whole
  }
}
