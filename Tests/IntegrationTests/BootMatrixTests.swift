import Glibc
import Linux
import Synchronization
import Testing
import Varlink

/// One way to boot one guest.
struct Cell: Sendable {
  var image: String
  var view: HostView
  var ownership: String

  static let all = ["bullseye", "bookworm", "trixie", "forky", "monolith"].flatMap { image in
    HostView.allCases.flatMap { view in
      ["map", "chown"].map { Cell(image: image, view: view, ownership: $0) }
    }
  }

  var name: String { "\(image)-\(view.rawValue)-\(ownership)" }
}

/// What became of a cell: what the table shows, and every check that failed.
struct CellResult: Sendable {
  var cell: Cell
  var state = "-"
  var failedUnits = "-"
  var secondsToRunning: Double?
  var secondsToStopped: Double?
  var checks = 0
  var complaints: [String] = []

  var row: [String] {
    [
      cell.image, cell.view.rawValue, cell.ownership, state, failedUnits, secondsToRunning.map(rounded) ?? "-",
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
}

/// Columns that are as wide as what is in them.
func table(_ rows: [[String]]) -> String {
  let columns = rows.map(\.count).max() ?? 0
  let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
  return rows.map { row in
    zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
  }.joined(separator: "\n")
}

@Suite("Boot matrix", .serialized)
struct BootMatrixTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyGuestRunsOnEveryHostWithEveryOwnership() async throws {
    try await withSandbox("matrix") { sandbox in
      for image in Set(Cell.all.map(\.image)) { try sandbox.image(image) }
      let work = MatrixWork()
      // Two at a time: enough for machines to meet each other, and no more than small hosts can do.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<2 {
          group.addTask {
            while let cell = work.next() { work.finish(CellRun(cell: cell, sandbox: sandbox).result()) }
          }
        }
      }
      let found = work.results
      let header = ["IMAGE", "HOST", "OWNERSHIP", "STATE", "FAILED", "RUNNING s", "STOPPED s", "CHECKS"]
      print(table([header] + found.map(\.row)))
      for result in found where !result.complaints.isEmpty {
        Issue.record("\(result.cell.name): \(result.complaints.joined(separator: "; "))")
      }
      #expect(found.count == 20)
      let left = sandbox.snapshot()
      #expect(left.groups.isEmpty && left.processes.isEmpty && left.mounts.isEmpty)
    }
  }
}

/// The cells still to be run, and the results of those that have been.
private final class MatrixWork: Sendable {
  private let queue = Mutex(Cell.all[...])
  private let finished = Mutex<[String: CellResult]>([:])

  func next() -> Cell? { queue.withLock { $0.popFirst() } }

  func finish(_ result: CellResult) { finished.withLock { $0[result.cell.name] = result } }

  var results: [CellResult] { finished.withLock { finished in Cell.all.compactMap { finished[$0.name] } } }
}

/// The way of one machine from nothing to nothing, looked at from the host and from inside.
private struct CellRun {
  let cell: Cell
  let sandbox: Sandbox
  var name: String { sandbox.name(cell.name) }
  /// Not the machine's name, which would be the hostname without being told.
  var hostname: String { "host-of-\(cell.name)" }

  func result() -> CellResult {
    var result = CellResult(cell: cell)
    do {
      try boot(&result)
      let guest = try sandbox.guest(name, view: cell.view)
      try lookFromOutside(guest, &result)
      try lookFromInside(guest, &result)
      if cell.image == "monolith" { try lookAtServices(guest, &result) }
      try powerOff(guest, &result)
    } catch {
      result.complaints.append("\(error)")
      _ = try? sandbox.hengectl("terminate", name, view: cell.view)
    }
    _ = try? sandbox.hengectl("remove", name, view: cell.view)
    return result
  }

  private func boot(_ result: inout CellResult) throws {
    try sandbox.succeed(
      "create", "-s", "PrivateUsersOwnership=\(cell.ownership)", "-s", "Hostname=\(hostname)", cell.image, name,
      view: cell.view)
    let outcome = try sandbox.hengectl("start", name, view: cell.view, deadline: 180)
    result.secondsToRunning = outcome.seconds
    result.check("\(outcome)", outcome.code == 0 && outcome.text == "\(name) is running")
  }

  private func lookFromOutside(_ guest: Guest, _ result: inout CellResult) throws {
    let leader = "\(guest.leader)"
    let map = (read("/proc/\(leader)/uid_map") ?? "").split(separator: "\n").map {
      $0.split(separator: " ").joined(separator: " ")
    }
    result.check("uid map", map.joined(separator: ", "), is: "0 \(guest.uidBase) 65536")
    result.check("the machine's root is the host's", guest.uidBase != 0)
    result.check("leader's uid", Host.status(guest.leader, "Uid") ?? "", is: uids(guest.uidBase))
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
      let (own, its) = (Host.namespace("self", kind), Host.namespace(leader, kind))
      result.check("\(kind) namespace: \(its ?? "none") is ours", own != nil && its != nil && own != its)
    }
    let group = Host.cgroup(guest.leader) ?? ""
    result.check("leader's cgroup is \(group)", group.contains("/henge-\(name)-") && group.contains("/payload/"))
    let bounding = UInt64(Host.status(guest.leader, "CapBnd") ?? "", radix: 16) ?? .max
    // CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_AUDIT_CONTROL, CAP_AUDIT_READ.
    for capability in [16, 17, 30, 37] {
      result.check("capability \(capability) is in the bounding set", bounding & 1 << capability == 0)
    }
    // A file that no boot writes to.
    let image = "\(sandbox.state)/images/\(cell.image)/layer-0/usr/bin/dpkg"
    result.check("owner of the image's file", owner(image), is: "0")
    if cell.ownership == "chown" {
      let own = "\(sandbox.state)/machines/\(name)/root/usr/bin/dpkg"
      result.check("owner of the machine's file", owner(own), is: "\(guest.uidBase)")
    } else {
      result.check("there is a copy of the image", access("\(sandbox.state)/machines/\(name)/root", F_OK) != 0)
      result.check(
        "owner of what was written", owner("\(sandbox.state)/machines/\(name)/upper"), is: "\(guest.uidBase)")
    }
  }

  private func uids(_ uid: UInt32) -> String { (0..<4).map { _ in "\(uid)" }.joined(separator: "\t") }

  private func owner(_ path: String) -> String {
    var status = stat()
    return lstat(path, &status) == 0 ? "\(status.st_uid)" : "no \(path)"
  }

  private func lookFromInside(_ guest: Guest, _ result: inout CellResult) throws {
    result.state = try guest.run("systemctl", "is-system-running").text
    result.check("system", result.state, is: "running")
    let failed = try guest.run("systemctl", "--failed", "--plain", "--no-legend").text
    result.failedUnits = "\(failed.split(separator: "\n").count)"
    result.check("failed units", failed, is: "")
    result.check(
      "file system of the control groups", try guest.succeed("stat", "-f", "-c", "%T", "/sys/fs/cgroup"),
      is: "cgroup2fs")
    result.check("owner of a file inside", try guest.succeed("stat", "-c", "%u", "/usr/bin/dpkg"), is: "0")
    result.check("hostname", try guest.succeed("uname", "-n"), is: hostname)
    result.check("transient hostname", try guest.succeed("hostnamectl", "--transient"), is: hostname)
    let written = try guest.shell("cat /etc/hostname").text
    let fixed = try guest.run("hostnamectl", "--static").text
    result.check("static hostname", fixed == "n/a" ? "" : fixed, is: written)
    try guest.succeed("systemctl", "restart", "systemd-journald.service")
    result.check("journald", try guest.run("systemctl", "is-active", "systemd-journald.service").text, is: "active")
    // What it takes down again after the restart is there to be read.
    try guest.succeed("systemd-cat", "-t", "henge-test", "echo", "after the restart")
    try guest.succeed("journalctl", "--sync")
    let line = try guest.succeed("journalctl", "-q", "-o", "cat", "-t", "henge-test")
    result.check("journal", line, is: "after the restart")
  }

  private func lookAtServices(_ guest: Guest, _ result: inout CellResult) throws {
    for unit in ["postgresql", "nginx", "postfix", "slapd", "rsyslog", "cron"] {
      result.check(unit, try guest.run("systemctl", "is-active", unit).text, is: "active")
    }
    let page = try guest.run("curl", "--silent", "--show-error", "--max-time", "30", "-i", "http://127.0.0.1/")
    result.check("page: \(page)", page.output.hasPrefix("HTTP/1.1 200"))
    let user = try guest.run("su", "-", "postgres", "-c", "psql -tAc 'select 6 * 7'")
    result.check("database: \(user)", user.text == "42")
  }

  private func powerOff(_ guest: Guest, _ result: inout CellResult) throws {
    let started = now()
    // It may not live long enough to say that it did.
    _ = try guest.run("systemctl", "poweroff")
    let outcome = try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "100", view: cell.view)
    let seconds = Double(now() - started) / 1e9
    result.secondsToStopped = seconds
    result.check("\(outcome)", outcome.code == 0)
    result.check("it took \(rounded(seconds)) s to power off", seconds < 10)
    result.check("its cgroup is left", sandbox.snapshot().groups.allSatisfy { !$0.contains("henge-\(name)-") })
    let alive = Host.processes(ofUIDs: guest.uids)
    result.check("processes are left: \(alive.joined(separator: ", "))", alive.isEmpty)
    result.check("run-time files are left", access("\(sandbox.runtime)/machines/\(name)", F_OK) != 0)
  }
}
