import Glibc
import Linux
import Synchronization
import Testing

// What is looked at whenever a guest has booted, on whatever host: in the guest by its own systemctl, and what the host
// shows of it.

/// The guests that every kind of host boots.
let allGuests = ["bullseye", "bookworm", "trixie", "forky", "monolith"]

/// What became of one guest on one kind of host: what the table shows, and every check that failed.
struct BootResult: Sendable {
  var image: String
  /// The kind of host, a column of the table at the end of all tests.
  var host: String
  var ownership = "-"
  var state = "-"
  var failedUnits = "-"
  var secondsToRunning: Double?
  var secondsToStopped: Double?
  var checks = 0
  var complaints: [String] = []

  static let header = ["IMAGE", "HOST", "OWNERSHIP", "STATE", "FAILED", "RUNNING s", "STOPPED s", "CHECKS"]

  var row: [String] {
    [
      image, host, ownership, state, failedUnits, secondsToRunning.map(rounded) ?? "-",
      secondsToStopped.map(rounded) ?? "-", complaints.isEmpty ? "\(checks) ok" : "\(complaints.count) BAD",
    ]
  }

  mutating func check(_ what: String, _ found: String, is wanted: String) {
    check("\(what): found '\(found)', wanted '\(wanted)'", found == wanted)
  }

  mutating func check(_ what: String, _ isGood: Bool) {
    checks += 1
    if !isGood { complaints.append(what) }
  }

  /// Adds it to the table that is printed when all tests are over: a line with guest, kind of host, and what became of it,
  /// for `Tests/boot-table`.
  func note() throws {
    guard let path = Checkout.environmentVariable("HENGE_BOOT_TABLE") else { return }
    let outcome = complaints.isEmpty ? state : "BAD"
    let line = "\(image)\t\(host)\t\(outcome)\t\(failedUnits)\t\(secondsToRunning.map(rounded) ?? "-")\n"
    let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw Complaint("\(path): errno \(errno)") }
    try Descriptor(adopting: file).writeAll(Array(line.utf8), subject: path)
  }
}

extension BootResult {
  /// What the host shows of a running machine's first process.
  mutating func lookAtLeader(_ guest: Guest) {
    let leader = "\(guest.leader)"
    check("the machine's root is the host's", guest.uidBase != 0)
    check(
      "leader's uid", Host.status(guest.leader, "Uid") ?? "",
      is: (0..<4).map { _ in "\(guest.uidBase)" }.joined(separator: "\t"))
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
      let (own, its) = (Host.namespace("self", kind), Host.namespace(leader, kind))
      check("\(kind) namespace: \(its ?? "none") is ours", own != nil && its != nil && own != its)
    }
    let bounding = UInt64(Host.status(guest.leader, "CapBnd") ?? "", radix: 16) ?? .max
    // CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_AUDIT_CONTROL, CAP_AUDIT_READ.
    for capability in [16, 17, 30, 37] {
      check("capability \(capability) is in the bounding set", bounding & 1 << capability == 0)
    }
  }

  /// That all units of the guest are well, by its own word.
  mutating func lookAtUnits(_ guest: Guest) throws {
    state = try guest.run("systemctl", "is-system-running").text
    check("system", state, is: "running")
    let failed = try guest.run("systemctl", "--failed", "--plain", "--no-legend").text
    failedUnits = "\(failed.split(separator: "\n").count)"
    check("failed units", failed, is: "")
    check(
      "file system of the control groups", try guest.succeed("stat", "-f", "-c", "%T", "/sys/fs/cgroup"),
      is: "cgroup2fs")
    check("owner of a file inside", try guest.succeed("stat", "-c", "%u %g", "/usr/bin/dpkg"), is: "0 0")
    if image == "monolith" { try lookAtServices(guest) }
  }

  private mutating func lookAtServices(_ guest: Guest) throws {
    for unit in ["postgresql", "nginx", "postfix", "slapd", "rsyslog", "cron"] {
      check(unit, try guest.run("systemctl", "is-active", unit).text, is: "active")
    }
    let page = try guest.run("curl", "--silent", "--show-error", "--max-time", "30", "-i", "http://127.0.0.1/")
    check("page: \(page)", page.output.hasPrefix("HTTP/1.1 200"))
    let user = try guest.run("su", "-", "postgres", "-c", "psql -tAc 'select 6 * 7'")
    check("database: \(user)", user.text == "42")
  }

  /// That nothing of a machine that was powered off runs on.
  mutating func lookForRemains(_ guest: Guest) {
    let alive = Host.processes(ofUIDs: guest.uids)
    check("processes are left: \(alive.joined(separator: ", "))", alive.isEmpty)
  }
}

/// Does something with each of some things, two at a time: enough for machines to meet each other, and no more than
/// small hosts can do.
func twoAtATime<Item: Sendable>(
  _ items: [Item], _ body: @escaping @Sendable (Item) -> BootResult
) async -> [BootResult] {
  let queue = BootQueue(items)
  await withTaskGroup(of: Void.self) { group in
    for _ in 0..<2 {
      group.addTask {
        while let (index, item) = queue.next() { queue.finish(index, body(item)) }
      }
    }
  }
  return queue.results
}

/// The things still to be done, and the results of those that have been.
private final class BootQueue<Item: Sendable>: Sendable {
  private let waiting: Mutex<ArraySlice<(offset: Int, element: Item)>>
  private let finished = Mutex<[Int: BootResult]>([:])

  init(_ items: [Item]) { waiting = Mutex(Array(items.enumerated())[...]) }

  func next() -> (Int, Item)? { waiting.withLock { $0.popFirst() } }

  func finish(_ index: Int, _ result: BootResult) { finished.withLock { $0[index] = result } }

  var results: [BootResult] {
    finished.withLock { finished in finished.keys.sorted().compactMap { finished[$0] } }
  }
}

/// Prints what became of all, and fails where something is not as it should be.
func show(_ results: [BootResult]) throws {
  print(table([BootResult.header] + results.map(\.row)))
  for result in results {
    try result.note()
    if !result.complaints.isEmpty {
      Issue.record("\(result.image), \(result.host), \(result.ownership): \(result.complaints.joined(separator: "; "))")
    }
  }
}

/// Columns that are as wide as what is in them.
func table(_ rows: [[String]]) -> String {
  let columns = rows.map(\.count).max() ?? 0
  let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
  return rows.map { row in
    zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
  }.joined(separator: "\n")
}
