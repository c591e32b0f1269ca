import Glibc
import Linux
import Testing
import Varlink

/// One way for the host's root to boot one guest.
private struct Cell: Sendable {
  var image: String
  var view: HostView
  var ownership: String

  static let all = allGuests.flatMap { image in
    HostView.allCases.flatMap { view in
      ["map", "chown"].map { Cell(image: image, view: view, ownership: $0) }
    }
  }

  var name: String { "\(image)-\(view.rawValue)-\(ownership)" }
}

@Suite("Boot matrix", .serialized)
struct BootMatrixTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyGuestRunsOnEveryHostWithEveryOwnership() async throws {
    try await withSandbox("matrix") { sandbox in
      for image in allGuests { try sandbox.image(image) }
      let found = await twoAtATime(Cell.all) { CellRun(cell: $0, sandbox: sandbox).result() }
      try show(found)
      #expect(found.count == 20)
      let left = sandbox.snapshot()
      #expect(left.groups.isEmpty && left.processes.isEmpty && left.mounts.isEmpty)
    }
  }
}

/// The way of one machine from nothing to nothing, looked at from the host and from inside.
private struct CellRun {
  let cell: Cell
  let sandbox: Sandbox
  var name: String { sandbox.name(cell.name) }
  /// Not the machine's name, which would be the hostname without being told.
  var hostname: String { "host-of-\(cell.name)" }

  func result() -> BootResult {
    let host = cell.view == .pure ? "root, pure v2" : "root, hybrid"
    var result = BootResult(image: cell.image, host: host, ownership: cell.ownership)
    do {
      try boot(&result)
      let guest = try sandbox.guest(name, view: cell.view)
      try lookFromOutside(guest, &result)
      try lookFromInside(guest, &result)
      try powerOff(guest, &result)
    } catch {
      result.complaints.append("\(error)")
      _ = try? sandbox.hengectl("terminate", name, view: cell.view)
    }
    _ = try? sandbox.hengectl("remove", name, view: cell.view)
    return result
  }

  private func boot(_ result: inout BootResult) throws {
    try sandbox.succeed(
      "create", "-s", "PrivateUsersOwnership=\(cell.ownership)", "-s", "Hostname=\(hostname)", cell.image, name,
      view: cell.view)
    let outcome = try sandbox.hengectl("start", name, view: cell.view, deadline: 180)
    result.secondsToRunning = outcome.seconds
    result.check("\(outcome)", outcome.code == 0 && outcome.text == "\(name) is running")
  }

  private func lookFromOutside(_ guest: Guest, _ result: inout BootResult) throws {
    let map = (read("/proc/\(guest.leader)/uid_map") ?? "").split(separator: "\n").map {
      $0.split(separator: " ").joined(separator: " ")
    }
    result.check("uid map", map.joined(separator: ", "), is: "0 \(guest.uidBase) 65536")
    result.lookAtLeader(guest)
    let group = Host.cgroup(guest.leader) ?? ""
    result.check("leader's cgroup is \(group)", group.contains("/henge-\(name)-") && group.contains("/payload/"))
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

  private func owner(_ path: String) -> String {
    var status = stat()
    return lstat(path, &status) == 0 ? "\(status.st_uid)" : "no \(path)"
  }

  private func lookFromInside(_ guest: Guest, _ result: inout BootResult) throws {
    try result.lookAtUnits(guest)
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

  private func powerOff(_ guest: Guest, _ result: inout BootResult) throws {
    let started = now()
    // It may not live long enough to say that it did.
    _ = try guest.run("systemctl", "poweroff")
    let outcome = try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "100", view: cell.view)
    let seconds = Double(now() - started) / 1e9
    result.secondsToStopped = seconds
    result.check("\(outcome)", outcome.code == 0)
    result.check("it took \(rounded(seconds)) s to power off", seconds < 10)
    result.check("its cgroup is left", sandbox.snapshot().groups.allSatisfy { !$0.contains("henge-\(name)-") })
    result.lookForRemains(guest)
    result.check("run-time files are left", access("\(sandbox.runtime)/machines/\(name)", F_OK) != 0)
  }
}
