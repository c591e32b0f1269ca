/// What happens when the kernel kills a process of the machine for want of memory: `OOMPolicy=`.
public enum OOMPolicy: String, SpecKeyword, Hashable {
  /// The machine is stopped in good order.
  case stop
  /// The others go on.
  case `continue`
  /// All of the machine's processes are killed.
  case kill
}

/// A limit for one block device: a line of `io.max`.
public struct DeviceLimit: SpecValue, Hashable {
  /// The device node, or any file on the file system whose device is meant.
  public let device: AbsolutePath
  /// Bytes or operations a second; nil is no limit.
  public let limit: UInt64?

  /// Takes a limit.
  ///
  /// - Parameters:
  ///   - device: the device node, or a file on it.
  ///   - limit: bytes or operations a second; nil is no limit.
  public init(device: AbsolutePath, limit: UInt64?) {
    self.device = device
    self.limit = limit
  }

  /// Takes `PATH VALUE`, the value a number with an optional `K`, `M`, `G` or `T` to the base 1000, or `infinity`.
  ///
  /// - Parameter text: the limit.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError(
      "device limit", text, "write PATH VALUE, the value from 1 with K, M, G or T to the base 1000, or infinity")
    let words = try splitWords(text, "device limit")
    guard words.count == 2, let path = words.first, let value = words.last else { throw wrong }
    device = try AbsolutePath(path)
    if value == "infinity" {
      limit = nil
    } else {
      guard let number = suffixed(value, base: 1000), number > 0, number < .max else { throw wrong }
      limit = number
    }
  }

  /// The text that parses to this value.
  public var description: String {
    "\(quoteWord(device.description)) \(limit.map { String($0) } ?? "infinity")"
  }
}

/// `DeviceAllow=`: device nodes that the machine may use.
public struct DeviceRule: SpecValue, Hashable {
  /// What the rule is about.
  public enum Node: Hashable, Sendable {
    /// One node below `/dev`.
    case path(AbsolutePath)
    /// All character devices of a driver, by its name in `/proc/devices`; `*` stands for any text.
    case character(String)
    /// All block devices of a driver, by its name in `/proc/devices`; `*` stands for any text.
    case block(String)
  }

  /// What the rule is about.
  public let node: Node
  /// `r`: may be read.
  public let canRead: Bool
  /// `w`: may be written.
  public let canWrite: Bool
  /// `m`: the node may be made with `mknod(2)`.
  public let canMake: Bool

  /// Takes `NODE [ACCESS]`: a path below `/dev`, `char-NAME` or `block-NAME`, and letters out of `rwm`, default all.
  ///
  /// - Parameter text: the rule.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError(
      "device rule", text, "write NODE [rwm], the node a path below /dev, char-NAME or block-NAME")
    let words = try splitWords(text, "device rule")
    guard (1...2).contains(words.count), let name = words.first else { throw wrong }
    let access = words.count > 1 ? words[1] : "rwm"
    guard !access.isEmpty, access.utf8.allSatisfy({ "rwm".utf8.contains($0) }),
      Set(access.utf8).count == access.utf8.count
    else { throw wrong }
    canRead = access.utf8.contains(UInt8(ascii: "r"))
    canWrite = access.utf8.contains(UInt8(ascii: "w"))
    canMake = access.utf8.contains(UInt8(ascii: "m"))
    if let (kind, driver) = name.cut(UInt8(ascii: "-")), kind == "char" || kind == "block" {
      guard !driver.isEmpty, driver.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") })
      else { throw wrong }
      node = kind == "char" ? .character(driver) : .block(driver)
    } else {
      let path = try AbsolutePath(name)
      guard path.description.hasPrefix("/dev/") else { throw wrong }
      node = .path(path)
    }
  }

  /// What the rule is about, in systemd's word.
  public var name: String {
    switch node {
    case .path(let path): path.description
    case .character(let driver): "char-" + driver
    case .block(let driver): "block-" + driver
    }
  }

  /// What is allowed, as letters out of `rwm`.
  public var access: String { (canRead ? "r" : "") + (canWrite ? "w" : "") + (canMake ? "m" : "") }

  /// The text that parses to this value.
  public var description: String { quoteWord(name) + " " + access }
}

/// `[Resources]`: limits, in the words of systemd.resource-control(5). Nil everywhere: not set.
public struct ResourcesSection: Equatable, Sendable {
  /// `MemoryMax=` (`memory.max`): beyond it processes are killed. Not zero.
  public var memoryMax: MemoryLimit?
  /// `MemoryHigh=` (`memory.high`): beyond it processes are slowed and memory is reclaimed. Not zero.
  public var memoryHigh: MemoryLimit?
  /// `MemoryLow=` (`memory.low`): below it memory is reclaimed only when nothing else is left.
  public var memoryLow: MemoryLimit?
  /// `MemoryMin=` (`memory.min`): below it memory is never reclaimed.
  public var memoryMin: MemoryLimit?
  /// `MemorySwapMax=` (`memory.swap.max`): how much may be swapped out.
  public var memorySwapMax: MemoryLimit?
  /// `CPUQuota=` (`cpu.max`): a share of one processor's time; over 100 % for several. Not zero.
  public var cpuQuota: Percentage?
  /// `CPUWeight=` (`cpu.weight`, `cpu.idle`): 1 to 10000, or idle.
  public var cpuWeight: CPUWeight?
  /// `AllowedCPUs=` (`cpuset.cpus`): where the machine may run; empty is not set. Repeated keys add.
  public var allowedCPUs: CPUSet = CPUSet()
  /// `IOWeight=` (`io.weight`): 1 to 10000.
  public var ioWeight: IOWeight?
  /// `IOReadBandwidthMax=` (`rbps` of `io.max`): bytes a second. Repeated keys add, a later device replaces.
  public var ioReadBandwidthMax: [DeviceLimit] = []
  /// `IOWriteBandwidthMax=` (`wbps` of `io.max`): bytes a second. Repeated keys add, a later device replaces.
  public var ioWriteBandwidthMax: [DeviceLimit] = []
  /// `IOReadIOPSMax=` (`riops` of `io.max`): operations a second. Repeated keys add, a later device replaces.
  public var ioReadIOPSMax: [DeviceLimit] = []
  /// `IOWriteIOPSMax=` (`wiops` of `io.max`): operations a second. Repeated keys add, a later device replaces.
  public var ioWriteIOPSMax: [DeviceLimit] = []
  /// `TasksMax=` (`pids.max`): how many processes and threads there may be.
  public var tasksMax: TasksLimit?
  /// `OOMPolicy=`: stop, continue or kill; nil leaves it to the machine's own systemd.
  public var oomPolicy: OOMPolicy?
  /// `DeviceAllow=`: further device nodes. Repeated keys add, a later rule for a node replaces.
  public var deviceAllow: [DeviceRule] = []
  /// `AutoScale=`: limits that move by themselves; empty is off. Repeated keys add, a later policy for a limit replaces.
  public var autoScale: [AutoScale] = []

  /// The defaults.
  public init() {}

  static let keys: [SpecKey] = valueKeys + listKeys

  private static let valueKeys: [SpecKey] = [
    .optional("MemoryMax", \.resources.memoryMax) { $0.isZero ? "it must be more than zero" : nil },
    .optional("MemoryHigh", \.resources.memoryHigh) { $0.isZero ? "it must be more than zero" : nil },
    .optional("MemoryLow", \.resources.memoryLow),
    .optional("MemoryMin", \.resources.memoryMin),
    .optional("MemorySwapMax", \.resources.memorySwapMax),
    .optional("CPUQuota", \.resources.cpuQuota) { $0.hundredths == 0 ? "it must be more than zero" : nil },
    .optional("CPUWeight", \.resources.cpuWeight),
    .union("AllowedCPUs", \.resources.allowedCPUs),
    .optional("IOWeight", \.resources.ioWeight),
    .optional("TasksMax", \.resources.tasksMax),
    .optional("OOMPolicy", \.resources.oomPolicy),
  ]

  /// Those that have a value for each of several subjects, which its first word names.
  static let listKeys: [SpecKey] = [
    .list("IOReadBandwidthMax", \.resources.ioReadBandwidthMax) { $0.device == $1.device },
    .list("IOWriteBandwidthMax", \.resources.ioWriteBandwidthMax) { $0.device == $1.device },
    .list("IOReadIOPSMax", \.resources.ioReadIOPSMax) { $0.device == $1.device },
    .list("IOWriteIOPSMax", \.resources.ioWriteIOPSMax) { $0.device == $1.device },
    .list("DeviceAllow", \.resources.deviceAllow) { $0.node == $1.node },
    .list("AutoScale", \.resources.autoScale) { $0.subject == $1.subject },
  ]
}
