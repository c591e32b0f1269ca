import MachineSpec

/// What shares and devices of a host's are, for limits that are given in terms of them.
public struct HostCapacity: Sendable, Equatable {
  /// Bytes of memory.
  public var memory: UInt64 = 0
  /// Processes and threads that the host can have.
  public var tasks: UInt64 = 0
  /// The whole disks behind paths of the spec, as `MAJOR:MINOR`.
  public var disks: [String: String] = [:]
  /// Whether the kernel tells how long tasks wait.
  public var hasPressure = false
  /// Whether whoever made the machine's group keeps it from devices.
  public var keepsDevices = false

  /// A host of which nothing is known.
  public init() {}

  func bytes(_ share: Percentage) -> UInt64 { part(share, of: memory) }
  func count(_ share: Percentage) -> UInt64 { max(1, part(share, of: tasks)) }

  private func part(_ share: Percentage, of whole: UInt64) -> UInt64 {
    let hundredths = UInt64(share.hundredths)
    // Shares are of 100 % at most, so neither product is greater than the whole and ten thousand squared.
    return whole / 10_000 * hundredths + whole % 10_000 * hundredths / 10_000
  }
}

extension ResourcesSection {
  /// The limits as they are put on a machine's group. A pure function.
  ///
  /// - Parameter host: what shares and devices stand for.
  /// - Throws: `PlanError` for what cannot be had on this host.
  public func limits(on host: HostCapacity) throws(PlanError) -> [Limit] {
    var limits: [Limit] = []
    let none = UInt64.max
    func memory(_ key: String, _ file: String, _ value: MemoryLimit?, unset: UInt64) {
      guard let value else { return }
      let bytes: UInt64 =
        switch value {
        case .bytes(let bytes): bytes
        case .percent(let share): host.bytes(share)
        case .infinity: none
        }
      limits.append(
        Limit(key: key, "memory", file, text(bytes), unset: text(unset), .number(bytes), unsetProperty: .number(unset)))
    }
    memory("MemoryMin", "memory.min", memoryMin, unset: 0)
    memory("MemoryLow", "memory.low", memoryLow, unset: 0)
    if !autoScale.isEmpty, !host.hasPressure {
      throw PlanError(
        "AutoScale= needs to know what tasks wait for, and this kernel does not tell: there is no /proc/pressure",
        advice: "boot it with psi=1, or take AutoScale= out", isHostsFault: true)
    }
    memory("MemoryHigh", "memory.high", scaledMemory(on: host), unset: none)
    memory("MemoryMax", "memory.max", memoryMax, unset: none)
    memory("MemorySwapMax", "memory.swap.max", memorySwapMax, unset: none)
    if let quota = scaledQuota { limits.append(quota.limit) }
    if let cpuWeight { limits.append(cpuWeight.limit) }
    if allowedCPUs != CPUSet() {
      limits.append(
        Limit(
          key: "AllowedCPUs", "cpuset", "cpuset.cpus", allowedCPUs.description, unset: "", .bits(allowedCPUs.bits),
          unsetProperty: .bits([]), isShown: false))
    }
    if let ioWeight { limits.append(ioWeight.limit) }
    let lists: [(String, String, [DeviceLimit])] = [
      ("IOReadBandwidthMax", "rbps", ioReadBandwidthMax), ("IOWriteBandwidthMax", "wbps", ioWriteBandwidthMax),
      ("IOReadIOPSMax", "riops", ioReadIOPSMax), ("IOWriteIOPSMax", "wiops", ioWriteIOPSMax),
    ]
    for (key, word, list) in lists {
      for item in list { try Self.add(item, key, word, host, to: &limits) }
    }
    if let tasksMax {
      let count: UInt64 =
        switch tasksMax {
        case .count(let count): count
        case .percent(let share): host.count(share)
        case .infinity: none
        }
      limits.append(
        Limit(
          key: "TasksMax", "pids", "pids.max", text(count), unset: "max", .number(count), unsetProperty: .number(none)))
    }
    if let devices = try deviceLimit(on: host) { limits.append(devices) }
    return limits
  }

  /// A limit that moves by itself begins where the spec says, or else at its minimum.
  private func scaledMemory(on host: HostCapacity) -> MemoryLimit? {
    guard let policy = autoScale(of: .memoryHigh) else { return memoryHigh }
    switch memoryHigh {
    case .bytes(let bytes): return .bytes(policy.allowed(bytes))
    case .percent(let share): return .bytes(policy.allowed(host.bytes(share)))
    case .infinity: return .bytes(policy.maximum)
    case nil: return .bytes(policy.minimum)
    }
  }

  private var scaledQuota: Percentage? {
    guard let policy = autoScale(of: .cpuQuota) else { return cpuQuota }
    return Percentage(hundredths: UInt32(clamping: policy.allowed(UInt64(cpuQuota?.hundredths ?? 0))))
  }

  /// Two paths may lead to one disk; the later counts, as in the file.
  private static func add(
    _ item: DeviceLimit, _ key: String, _ word: String, _ host: HostCapacity, to limits: inout [Limit]
  ) throws(PlanError) {
    let path = item.device.description
    guard let device = host.disks[path] else {
      throw PlanError(
        "\(key)= names '\(path)', behind which there is no disk of this host",
        advice: "name a disk such as /dev/sda, or a file on one", isHostsFault: true)
    }
    var limit = Limit(
      key: key, "io", "io.max", "\(device) \(word)=\(item.limit.map(text) ?? "max")", unset: "\(device) \(word)=max",
      .device(path: path, limit: item.limit ?? .max), unsetProperty: .device(path: path, limit: .max), isShown: false)
    limit.device = device
    limits.removeAll(where: limit.replaces)
    limits.append(limit)
  }
}

extension Percentage {
  /// A share of one processor's time as `cpu.max` takes it: microseconds of run time in a period.
  ///
  /// The kernel takes no less than a millisecond, and no period above a second: below 1 % the period is longer.
  fileprivate var limit: Limit {
    let share = UInt64(hundredths)
    let (quota, period): (UInt64, UInt64) = share >= 100 ? (share * 10, 100_000) : (max(1000, share * 100), 1_000_000)
    return Limit(
      key: "CPUQuota", "cpu", "cpu.max", "\(min(quota, 10_000_000_000)) \(period)", unset: "max 100000",
      .number(share * 100), property: "CPUQuotaPerSecUSec", unsetProperty: .number(.max))
  }
}

extension CPUWeight {
  /// An idle group has no weight, and one with a weight is not idle; so both are said, idleness first.
  fileprivate var limit: Limit {
    func writes(_ weight: UInt16) -> [CgroupWrite] {
      [CgroupWrite(file: "cpu.idle", value: "0"), CgroupWrite(file: "cpu.weight", value: "\(weight)")]
    }
    let value: LimitProperty.Value
    let files: [CgroupWrite]
    switch self {
    case .idle: (value, files) = (.number(0), [CgroupWrite(file: "cpu.idle", value: "1")])
    case .weight(let weight): (value, files) = (.number(UInt64(weight)), writes(weight))
    }
    return Limit(
      key: "CPUWeight", controller: "cpu", writes: files, resets: writes(100),
      property: LimitProperty(name: "CPUWeight", value: value),
      unsetProperty: LimitProperty(name: "CPUWeight", value: .number(.max)))
  }
}

extension IOWeight {
  /// Kernels without the cost model have the weight of the BFQ scheduler instead, which ends at 1000.
  fileprivate var limit: Limit {
    func write(_ weight: UInt16) -> [CgroupWrite] {
      let scaled = weight <= 100 ? weight : 100 + UInt16(UInt32(weight - 100) * 900 / 9900)
      return [
        CgroupWrite(
          file: "io.weight", value: "default \(weight)", instead: .init(file: "io.bfq.weight", value: "\(scaled)"))
      ]
    }
    return Limit(
      key: "IOWeight", controller: "io", writes: write(weight), resets: write(100),
      property: LimitProperty(name: "IOWeight", value: .number(UInt64(weight))),
      unsetProperty: LimitProperty(name: "IOWeight", value: .number(.max)))
  }
}

extension CPUSet {
  /// A bit for each processor, the lowest first.
  var bits: [UInt8] {
    var result = [UInt8](repeating: 0, count: ((ranges.last?.upperBound ?? -1) + 8) / 8)
    for range in ranges { for number in range { result[number / 8] |= 1 << UInt8(number % 8) } }
    return result
  }
}

extension Limit {
  /// A limit that is one value in one file.
  fileprivate init(
    key: String, _ controller: String, _ file: String, _ value: String, unset: String, _ number: LimitProperty.Value,
    property: String? = nil, unsetProperty: LimitProperty.Value, isShown: Bool = true
  ) {
    self.init(
      key: key, controller: controller, writes: [CgroupWrite(file: file, value: value, isShown: isShown)],
      resets: [CgroupWrite(file: file, value: unset, isShown: isShown)],
      property: LimitProperty(name: property ?? key, value: number),
      unsetProperty: LimitProperty(name: property ?? key, value: unsetProperty))
  }
}

extension Limit {
  /// One of each key that has one value, whatever value: for taking them all away.
  public static let all: [Limit] = {
    var some = ResourcesSection()
    (some.memoryMin, some.memoryLow, some.memoryHigh) = (.infinity, .infinity, .infinity)
    (some.memoryMax, some.memorySwapMax) = (.infinity, .infinity)
    (some.cpuQuota, some.cpuWeight) = (Percentage(hundredths: 100), .idle)
    some.tasksMax = .infinity
    some.allowedCPUs = (try? CPUSet("0")) ?? CPUSet()
    some.ioWeight = try? IOWeight("100")
    some.deviceAllow = [try? DeviceRule("/dev/null")].compactMap { $0 }
    var host = HostCapacity()
    host.keepsDevices = true
    return (try? some.limits(on: host)) ?? []
  }()
}

/// The kernel's word for a number, or for none.
private func text(_ number: UInt64) -> String { number == .max ? "max" : String(number) }
