import CLinux
import Glibc
import Linux
import MachineSpec
import Systemd

/// Moves one limit of a machine as its `AutoScale=` allows: up a step when tasks wait for what it limits and the host
/// has some of that idle, down a step when nobody has waited for a while and what is used fits below.
///
/// The kernel tells when tasks wait, by a trigger on the group's pressure file; nothing is looked at meanwhile. The one
/// timer runs only while the limit is above its minimum.
final class AutoScaler {
  let policy: AutoScale
  private let group: CgroupDirectory
  private let loop: EventLoop
  /// Asked to move the limit; tells whether it was.
  private let move: (_ policy: AutoScale, _ from: UInt64, _ to: UInt64, _ done: @escaping (Bool) -> Void) -> Void
  private var value: UInt64
  private var isMoving = false
  private let pressure: Descriptor
  private var trigger: EventLoop.Source?
  private var calm: EventLoop.Source?
  /// When a task had to wait last, on the monotonic clock in microseconds.
  private var lastPressure: UInt64 = 0
  private var lastUse: (moment: UInt64, used: UInt64)
  private var lastIdle: ProcessorTimes

  /// How long nobody may have waited before something is given back, in microseconds.
  private static let patience: UInt64 = 10_000_000

  /// Begins to watch.
  ///
  /// - Parameters:
  ///   - value: what the limit is now.
  ///   - move: moves it, and tells whether that worked.
  init(
    _ policy: AutoScale, from value: UInt64, in group: CgroupDirectory, on loop: EventLoop,
    move: @escaping (_ policy: AutoScale, _ from: UInt64, _ to: UInt64, _ done: @escaping (Bool) -> Void) -> Void
  ) throws {
    self.policy = policy
    self.value = value
    self.group = group
    self.loop = loop
    self.move = move
    let file = policy.subject == .cpuQuota ? "cpu.pressure" : "memory.pressure"
    pressure = try group.descriptor.open(file, [.readWrite, .nonBlocking], lookup: .beneath)
    lastUse = (clinux_monotonic_microseconds(), Self.use(of: policy, in: group))
    lastIdle = ProcessorTimes()
    // A tenth of two seconds, which is the shortest span that a kernel grants to anybody but root.
    try pressure.writeAll("some 200000 2000000\0".utf8, subject: file)
    trigger = try loop.addIO(pressure.raw, .priority) { [unowned self] _ in raise() }
    calm = try loop.addTimer(after: Self.patience, accuracy: 1_000_000) { [unowned self] in giveBack() }
    if value <= policy.minimum { try calm?.setEnabled(false) }
  }

  private func raise() {
    lastPressure = clinux_monotonic_microseconds()
    let next = policy.above(value)
    guard next > value, !isMoving, hasIdle(next - value) else { return }
    change(to: next)
  }

  private func giveBack() {
    let next = policy.below(value)
    let used = useSinceLast()
    let isCalm = clinux_monotonic_microseconds() >= lastPressure + Self.patience
    // With a tenth to spare: what fits barely would wait again at once.
    if isCalm, next < value, !isMoving, used <= next - next / 10 {
      change(to: next)
    } else if value > policy.minimum {
      try? calm?.rearm(after: Self.patience)
    }
  }

  private func change(to next: UInt64) {
    isMoving = true
    move(policy, value, next) { [weak self] worked in
      guard let self else { return }
      isMoving = false
      if worked { value = next }
      if value > policy.minimum { try? calm?.rearm(after: Self.patience) }
    }
  }

  /// What the machine uses now: bytes, or since the last look hundredths of a percent of a processor.
  private func useSinceLast() -> UInt64 {
    let now = clinux_monotonic_microseconds()
    let used = Self.use(of: policy, in: group)
    defer { lastUse = (now, used) }
    guard policy.subject == .cpuQuota else { return used }
    guard now > lastUse.moment, used >= lastUse.used else { return .max }
    return UInt64(Double(used - lastUse.used) / Double(now - lastUse.moment) * 10_000)
  }

  /// Bytes, or microseconds on processors.
  private static func use(of policy: AutoScale, in group: CgroupDirectory) -> UInt64 {
    func text(_ file: String) -> String { ((try? group.read(file)) ?? nil) ?? "" }
    switch policy.subject {
    case .memoryHigh: return UInt64(text("memory.current").prefix { $0 != "\n" }) ?? .max
    case .cpuQuota:
      let line = text("cpu.stat").split(separator: "\n").first { $0.hasPrefix("usage_usec ") }
      return line.flatMap { UInt64($0.dropFirst(11)) } ?? 0
    }
  }

  /// Whether the host can spare so much: of memory, a tenth of all stays; of processors, what was idle since the last look.
  private func hasIdle(_ amount: UInt64) -> Bool {
    switch policy.subject {
    case .memoryHigh:
      guard let (total, available) = hostMemory() else { return false }
      return available > total / 10 && available - total / 10 >= amount
    case .cpuQuota:
      let now = ProcessorTimes()
      defer { lastIdle = now }
      return now.idle(since: lastIdle) >= amount
    }
  }
}

/// Times that all processors spent, of `/proc/stat`.
struct ProcessorTimes {
  private var idle: UInt64 = 0
  private var all: UInt64 = 0
  private var processors: UInt64 = 0

  init() {
    let path = "/proc/stat"
    let bytes = (try? Descriptor.open(path).readAll(limit: 1 << 20, subject: path)) ?? []
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      guard line.hasPrefix("cpu") else { break }
      let words = line.split(separator: " ")
      if words.first != "cpu" {
        processors += 1
      } else {
        // user nice system idle iowait irq softirq steal; what comes after is part of the first two.
        let times = words.dropFirst().prefix(8).map { UInt64($0) ?? 0 }
        all = times.reduce(0, &+)
        idle = times.count > 4 ? times[3] &+ times[4] : 0
      }
    }
  }

  /// What was idle since an earlier look, in hundredths of a percent of a processor.
  func idle(since before: ProcessorTimes) -> UInt64 {
    guard all > before.all, idle >= before.idle else { return 0 }
    return UInt64(Double(idle - before.idle) / Double(all - before.all) * Double(processors) * 10_000)
  }
}

/// The host's memory and what of it could be had at once, in bytes.
private func hostMemory() -> (total: UInt64, available: UInt64)? {
  let path = "/proc/meminfo"
  let bytes = (try? Descriptor.open(path).readAll(limit: 65536, subject: path)) ?? []
  func field(_ name: String) -> UInt64? {
    let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("\(name):") }
    return line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 << 10 }
  }
  guard let total = field("MemTotal"), let available = field("MemAvailable") else { return nil }
  return (total, available)
}
