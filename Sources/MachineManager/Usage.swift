import CLinux
import Linux
import MachineSpec
import MachineStore

/// What a running machine uses, as its control group tells at one moment. What no controller counts is nil.
public struct Usage: Sendable {
  /// The machine.
  public var name: MachineName
  /// The moment, in microseconds of the monotonic clock.
  public var moment: UInt64
  /// Time on processors since the start, in microseconds.
  public var cpu: UInt64?
  /// Memory in bytes.
  public var memory: UInt64?
  /// The most memory that it may have; nil also where there is no limit.
  public var memoryMax: UInt64?
  /// What is swapped out, in bytes.
  public var swap: UInt64?
  /// Processes and threads.
  public var tasks: UInt64?
  /// Bytes read from block devices since the start.
  public var read: UInt64?
  /// Bytes written to block devices since the start.
  public var written: UInt64?
  /// How long some of its tasks waited for `cpu`, `memory` and `io`.
  public var pressure: [String: Pressure] = [:]

  /// How much time was lost in waiting for something, as the kernel's pressure files tell.
  public struct Pressure: Sendable, Equatable {
    /// The share of the last ten seconds in which some task waited, in percent.
    public var some: Double
    /// The share in which all did.
    public var full: Double
    /// The time in which some did, since the start, in microseconds.
    public var total: UInt64

    /// Reads a pressure file; nil for what is none.
    public init?(_ text: String) {
      var values: [String: [String: String]] = [:]
      for line in text.split(separator: "\n") {
        let words = line.split(separator: " ")
        guard let kind = words.first else { continue }
        for word in words.dropFirst() {
          let pair = word.split(separator: "=", maxSplits: 1)
          if pair.count == 2 { values[String(kind), default: [:]][String(pair[0])] = String(pair[1]) }
        }
      }
      guard let some = values["some"]?["avg10"].flatMap({ Double($0) }) else { return nil }
      self.some = some
      full = values["full"]?["avg10"].flatMap { Double($0) } ?? 0
      total = values["some"]?["total"].flatMap { UInt64($0) } ?? 0
    }
  }

  /// Reads the files of a group.
  init(of name: MachineName, _ group: CgroupDirectory) {
    self.name = name
    moment = clinux_monotonic_microseconds()
    func text(_ file: String) -> String? { (try? group.read(file)) ?? nil }
    func number(_ file: String) -> UInt64? { text(file).flatMap { UInt64($0.prefix { $0 != "\n" }) } }
    cpu = text("cpu.stat").flatMap(Self.cpuTime)
    memory = number("memory.current")
    memoryMax = number("memory.max")
    swap = number("memory.swap.current")
    tasks = number("pids.current")
    if let transfers = text("io.stat").map(Self.transfers) { (read, written) = transfers }
    for resource in ["cpu", "memory", "io"] { pressure[resource] = text("\(resource).pressure").flatMap(Pressure.init) }
  }

  /// `usage_usec` of `cpu.stat`.
  static func cpuTime(_ text: String) -> UInt64? {
    text.split(separator: "\n").first { $0.hasPrefix("usage_usec ") }.flatMap { UInt64($0.dropFirst(11)) }
  }

  /// The sums over all devices of `io.stat`.
  static func transfers(_ text: String) -> (read: UInt64, written: UInt64) {
    var sums: (read: UInt64, written: UInt64) = (0, 0)
    for word in text.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      if word.hasPrefix("rbytes=") { sums.read &+= UInt64(word.dropFirst(7)) ?? 0 }
      if word.hasPrefix("wbytes=") { sums.written &+= UInt64(word.dropFirst(7)) ?? 0 }
    }
    return sums
  }
}

extension MachineManager {
  /// What the machines that run use just now, in the order of their names. Nothing is asked of their supervisors.
  ///
  /// - Parameter wanted: the machines; empty is all.
  /// - Throws: `Failure` when one that was named does not run.
  public func usage(of wanted: [MachineName] = []) throws(Failure) -> [Usage] {
    let boot = try currentBootID()
    var result: [Usage] = []
    for name in wanted.isEmpty ? try store.names() : wanted {
      if let state = store.state(of: name), state.bootID == boot, let path = state.cgroup,
        let group = try? CgroupDirectory(opening: path)
      {
        result.append(Usage(of: name, group))
      } else if !wanted.isEmpty {
        guard store.exists(name) else { throw Failure.noSuchMachine(name) }
        throw Failure("look at", name.description, "it is not running", advice: "hengectl start \(name)")
      }
    }
    return result
  }
}
