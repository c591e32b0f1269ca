import ArgumentParser
import CLinux
import Glibc
import Linux
import MachineManager
import MachineSpec
import Varlink

struct SetLimit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set-limit",
    abstract: "Change limits of a machine at once.",
    discussion: """
      KEY is one of [Resources], such as MemoryMax, CPUQuota, TasksMax; KEY= takes a limit away. All of them change, or \
      none does. Without --persist the machine's next start has the limits of its spec again.
      """)

  @Argument(help: "The machine.") var name: String
  @Argument(help: ArgumentHelp("The limits.", valueName: "key=value")) var limits: [String]
  @Flag(help: "Keep them in the spec as well; of a machine that does not run only there.") var persist = false

  func run() throws {
    let name = try MachineName(name)
    Terminal.warn(try manager().setLimits(name, limits, isKept: persist))
  }
}

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Show what running machines use: processor, memory, tasks, disks, and how long they wait for each.",
    discussion: """
      On a terminal the table is live; q ends it. Pressure is the share of the last ten seconds in which some task \
      waited. What no controller of this host counts is shown as -.
      """)

  @Argument(help: "The machines; all that run without a name.") var names: [String] = []
  @Option(help: "Seconds from one reading to the next.") var delay: Double = 1
  @Option(help: "Sort by name, cpu, memory, tasks or io.") var sort: UsageOrder = .cpu
  @Flag(help: "Print one sample as JSON.") var json = false

  func validate() throws {
    guard delay >= 0.1, delay <= 3600 else { throw ValidationError("--delay takes 0.1 to 3600 seconds") }
  }

  func run() throws {
    let manager = try manager()
    let names = try names.map { try MachineName($0) }
    let isLive = Terminal.isOutput && !json
    // A rate takes two readings; one that is asked for once need not be waited for long.
    let first = try manager.usage(of: names)
    let interval = isLive ? UInt64(delay * 1e6) : 250_000
    let timer = Descriptor(adopting: try check(clinux_timer_create(interval), "make", "a timer"))
    if isLive {
      try watch(timer, first) { try manager.usage(of: names) }
    } else {
      while clinux_timer_wait(timer.raw, -1) == 0 {}
      let rows = sort.sorted(UsageRow.rows(try manager.usage(of: names), since: first))
      if json { print(JSON.array(rows.map(\.json)).pretty) } else { show(rows) }
    }
  }

  private func watch(_ timer: Descriptor, _ first: [Usage], _ read: () throws -> [Usage]) throws {
    let terminal = LiveTerminal()
    defer { terminal.restore() }
    var before = first
    while true {
      let now = try read()
      print("\u{1b}[H\u{1b}[J", terminator: "")
      show(sort.sorted(UsageRow.rows(now, since: before)))
      fflush(nil)
      before = now
      waiting: while true {
        let event = clinux_timer_wait(timer.raw, terminal.input)
        if event < 0 || terminal.wantsEnd(hasInput: event == 2) { return }
        if event == 1 { break waiting }
      }
    }
  }

  private func show(_ rows: [UsageRow]) {
    var table = Table(
      "MACHINE", "CPU", "MEMORY", "LIMIT", "SWAP", "TASKS", "READ/S", "WRITE/S", "PRESSURE CPU", "MEM", "IO")
    for row in rows {
      func bytes(_ number: UInt64?) -> String { number.map { size($0) } ?? "-" }
      func pressure(_ kind: String) -> String { row.usage.pressure[kind].map { "\(tenths($0.some))%" } ?? "-" }
      table.add(
        row.usage.name.description, row.cpu.map { "\(tenths($0))%" } ?? "-", bytes(row.usage.memory),
        bytes(row.usage.memoryMax), bytes(row.usage.swap), row.usage.tasks.map { "\($0)" } ?? "-", bytes(row.read),
        bytes(row.written), pressure("cpu"), pressure("memory"), pressure("io"))
    }
    table.show(empty: "no machine is running")
  }
}

/// What the rows of `top` are sorted by; the greatest first.
enum UsageOrder: String, ExpressibleByArgument {
  case name
  case cpu
  case memory
  case tasks
  case io

  func sorted(_ rows: [UsageRow]) -> [UsageRow] {
    func weight(_ row: UsageRow) -> Double {
      switch self {
      case .name: 0
      case .cpu: row.cpu ?? 0
      case .memory: Double(row.usage.memory ?? 0)
      case .tasks: Double(row.usage.tasks ?? 0)
      case .io: Double(row.read ?? 0) + Double(row.written ?? 0)
      }
    }
    return rows.sorted {
      let (left, right) = (weight($0), weight($1))
      return left == right ? $0.usage.name.description < $1.usage.name.description : left > right
    }
  }
}

/// A reading, with the rates since the one before.
struct UsageRow {
  var usage: Usage
  /// In percent of one processor.
  var cpu: Double?
  /// Bytes a second.
  var read: UInt64?
  /// Bytes a second.
  var written: UInt64?

  static func rows(_ now: [Usage], since before: [Usage]) -> [UsageRow] {
    now.map { usage in
      let old = before.first { $0.name.description == usage.name.description }
      func rate(_ path: KeyPath<Usage, UInt64?>) -> Double? {
        guard let old, let was = old[keyPath: path], let value = usage[keyPath: path], value >= was,
          usage.moment > old.moment
        else { return nil }
        return Double(value - was) / Double(usage.moment - old.moment)
      }
      func bytes(_ path: KeyPath<Usage, UInt64?>) -> UInt64? {
        rate(path).flatMap { UInt64(exactly: ($0 * 1e6).rounded()) }
      }
      return UsageRow(usage: usage, cpu: rate(\.cpu).map { $0 * 100 }, read: bytes(\.read), written: bytes(\.written))
    }
  }

  var json: JSON {
    func number(_ value: UInt64?) -> JSON { value.flatMap { Int64(exactly: $0) }.map { .int($0) } ?? .null }
    var pressure: JSON = [:]
    for kind in ["cpu", "memory", "io"] {
      pressure[kind] =
        usage.pressure[kind].map {
          ["some": .double($0.some), "full": .double($0.full), "totalMicroseconds": number($0.total)]
        } ?? .null
    }
    return [
      "name": .string(usage.name.description), "cpuMicroseconds": number(usage.cpu),
      "cpuPercent": cpu.map { .double(($0 * 10).rounded() / 10) } ?? .null, "memory": number(usage.memory),
      "memoryMax": number(usage.memoryMax), "swap": number(usage.swap), "tasks": number(usage.tasks),
      "readBytes": number(usage.read), "writtenBytes": number(usage.written), "readPerSecond": number(read),
      "writtenPerSecond": number(written), "pressure": pressure,
    ]
  }
}

private func tenths(_ value: Double) -> String {
  // What no file of the kernel's should say must not trap.
  guard value.isFinite, value >= 0, value < 1e9 else { return "-" }
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(tenths % 10)"
}

/// A terminal whose keys come one by one, until it is restored.
private struct LiveTerminal {
  private var before = termios()
  /// Where keys come from; -1 when that is no terminal.
  let input: Int32

  init() {
    input = isatty(0) == 1 && tcgetattr(0, &before) == 0 ? 0 : -1
    // The settings have to be put back, so a signal may not just end this.
    clinux_stop_on_signals()
    guard input == 0 else { return }
    var keys = before
    keys.c_lflag &= ~tcflag_t(ICANON | ECHO)
    tcsetattr(0, TCSANOW, &keys)
  }

  /// Whether to end: by a signal, by `q`, or because nobody is there any more.
  func wantsEnd(hasInput: Bool) -> Bool {
    if clinux_stop_signal() != 0 { return true }
    guard hasInput else { return false }
    var key: UInt8 = 0
    return Glibc.read(0, &key, 1) < 1 || key == UInt8(ascii: "q")
  }

  func restore() {
    if input == 0 {
      var settings = before
      tcsetattr(0, TCSANOW, &settings)
    }
  }
}
