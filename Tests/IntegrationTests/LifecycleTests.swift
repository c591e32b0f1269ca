import Glibc
import Linux
import Testing
import Varlink

/// What ends, stops or begins a machine again, from inside and from outside, with every guest.
@Suite("Lifecycle", .serialized)
struct LifecycleTests {
  private static let guests = ["bullseye", "bookworm", "trixie", "forky"]

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyGuestGoesThroughItsLife() throws {
    try withSandbox("life") { sandbox in
      var rows = [["IMAGE", "FREEZE", "RE-EXEC", "SOFT-REBOOT", "REBOOT", "STOPPED PID 1", "POWEROFF INSIDE"]]
      for image in Self.guests {
        try sandbox.image(image)
        rows.append(try Life(sandbox: sandbox, image: image).row())
      }
      print(table(rows))
      let left = sandbox.snapshot()
      #expect(left.groups.isEmpty && left.processes.isEmpty && left.mounts.isEmpty)
    }
  }

  /// A machine that hears nothing is killed at the deadline; a reboot starts it again then.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aFrozenMachineIsToldToStopAllTheSame() throws {
    try withSandbox("frozen") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("cold")
      try sandbox.succeed("create", "-s", "TimeoutStopSec=20", "trixie", name)
      for verb in ["poweroff", "reboot", "terminate"] {
        if try sandbox.status(name, "state")?.stringValue == "stopped" { try sandbox.succeed("start", name) }
        let frozen = try sandbox.guest(name)
        try sandbox.succeed("freeze", name)
        #expect(try sandbox.succeed("freeze", name) == "\(name) is frozen", "again")
        let outcome = try sandbox.hengectl(verb, name, deadline: 30)
        #expect(outcome.code == 0 && outcome.seconds < 15, "\(outcome)")
        #expect(Host.processes(ofUIDs: frozen.uids).isEmpty == (verb != "reboot"))
        if verb == "reboot" { #expect(try sandbox.guest(name).leader != frozen.leader) }
      }
      expectRefusal(try sandbox.hengectl("freeze", name), code: 1, "not running")
      expectRefusal(try sandbox.hengectl("thaw", name), code: 1, "not running")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func signalsGoByEveryNameToWhomTheyShall() throws {
    try withSandbox("signals") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("sig")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      // Who does not wait for it passes this signal over.
      let line = "trap 'echo got >> /run/got' WINCH; while :; do sleep 0.02; done"
      try guest.succeed("systemd-run", "--unit=ear", "sh", "-c", line)
      func heard() throws -> Int { try guest.shell("cat /run/got").text.split(separator: "\n").count }
      for (number, signal) in ["SIGWINCH", "WINCH", "28"].enumerated() {
        // The shell may not have come to its trap yet.
        let end = now() + 20_000_000_000
        repeat {
          try sandbox.succeed("kill", "--kill-whom=all", "--signal=\(signal)", name)
          pause(milliseconds: 60)
        } while try heard() <= number && now() < end
        #expect(try heard() > number, "\(signal)")
      }
      // The last one may be on its way yet.
      var count = try heard()
      try until("it has heard all") {
        defer { count = (try? heard()) ?? count }
        pause(milliseconds: 200)
        return try heard() == count
      }
      try sandbox.succeed("kill", "--kill-whom=leader", "--signal=SIGWINCH", name)
      // Process 1 takes it for the wish to execute itself again, and goes on.
      for signal in ["SIGTERM", "TERM", "15"] {
        try sandbox.succeed("kill", "--kill-whom=leader", "--signal=\(signal)", name)
        #expect(try sandbox.succeed("wait", name, "--for", "ear", "--timeout", "20").contains("is active"), "\(signal)")
        #expect(try sandbox.guest(name).leader == guest.leader)
      }
      #expect(try heard() == count, "only process 1 was meant")
      for wrong in ["SIGNOPE", "0", "65", "-1", ""] {
        #expect(try sandbox.hengectl("kill", "--signal=\(wrong)", name).code == 2, "\(wrong)")
      }
      #expect(try sandbox.hengectl("kill", "--kill-whom=nobody", name).code == 2)
      try sandbox.succeed("kill", "--kill-whom=leader", "-s", "RTMIN+4", name)
      try sandbox.succeed("wait", name, "--for", "stopped", "--timeout", "30")
      try sandbox.succeed("start", name)
      try sandbox.succeed("kill", "--kill-whom=all", "--signal=SIGKILL", name)
      // It crashed, which is what whoever waited is told.
      #expect([0, 1].contains(try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "30").code))
      #expect(try sandbox.status(name, "state")?.stringValue == "stopped")
    }
  }

  /// Of an ephemeral machine nothing is left but the word that it was there, however it ends.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["inside", "terminate", "supervisor"])
  func anEphemeralMachineLeavesNothing(_ end: String) throws {
    try withSandbox("gone-\(end)") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("e")
      func ranges() -> [String] { names(in: "\(sandbox.state)/uid-ranges").filter { !$0.hasPrefix(".") } }
      try sandbox.succeed("run", "--ephemeral", "-s", "Hostname=short-lived", "trixie", name)
      let guest = try sandbox.guest(name)
      #expect(ranges().count == 1 && names(in: sandbox.configuration) == ["\(name).machine"])
      switch end {
      case "inside":
        _ = try guest.run("systemctl", "poweroff")
        _ = try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "30")
      case "terminate": try sandbox.succeed("terminate", name)
      default:
        let supervisor = try #require(guest.state["supervisor"]?.intValue.flatMap { Int32(exactly: $0) })
        let held = try Pidfd(opening: supervisor)
        try held.signal(SIGKILL)
        var poll = pollfd(fd: held.descriptor.raw, events: Int16(POLLIN), revents: 0)
        #expect(Glibc.poll(&poll, 1, 10_000) == 1)
      }
      #expect(try sandbox.hengectl("list", "--json").json() == [])
      #expect(names(in: "\(sandbox.state)/machines") == [] && ranges() == [])
      #expect(names(in: sandbox.configuration) == [] && names(in: "\(sandbox.runtime)/machines") == [])
      #expect(sandbox.snapshot().groups.isEmpty && Host.processes(ofUIDs: guest.uids).isEmpty)
      let events = try sandbox.succeed("events", name)
      #expect(events.hasSuffix("removed") && events.contains("stopped") == (end != "supervisor"), "\(events)")
    }
  }
}

/// The life of one guest's machine, each stage seen from the host and from inside.
private struct Life {
  let sandbox: Sandbox
  let image: String
  var name: String { sandbox.name(image) }

  func row() throws -> [String] {
    try sandbox.succeed("create", "-s", "TimeoutStopSec=2", image, name)
    try sandbox.succeed("start", name)
    let first = try sandbox.guest(name)
    let identity = try identity(of: first)
    var row = [image]
    row.append(try timed { try freeze(first) })
    row.append(try timed { try reexecute(first) })
    let knowsSoftReboot = try first.run("test", "-e", "/usr/lib/systemd/system/soft-reboot.target").code == 0
    row.append(knowsSoftReboot ? try timed { try softReboot(first) } : "-")
    row.append(try timed { try reboot(first, identity) })
    row.append(try timed { try stopped(identity) })
    row.append(try timed { try powerOff() })
    try sandbox.succeed("remove", name)
    return row
  }

  private func timed(_ body: () throws -> Void) throws -> String {
    let begin = now()
    try body()
    return "\(rounded(Double(now() - begin) / 1e9)) s"
  }

  /// Who the machine is, for itself and for the host.
  private func identity(of guest: Guest) throws -> [String] {
    [
      try guest.succeed("cat", "/etc/machine-id"), guest.state["uuid"]?.stringValue ?? "none", "\(guest.uidBase)",
      // The supervisor's group and the machine's: the leader's is one of systemd's own.
      guest.state["cgroup"]?.stringValue ?? "none", guest.state["supervisor"]?.compact ?? "none",
    ]
  }

  private func freeze(_ guest: Guest) throws {
    try sandbox.succeed("freeze", name)
    let group = try #require(guest.state["cgroup"]?.stringValue)
    #expect(read("\(group)/payload/cgroup.events")?.contains("frozen 1") ?? false)
    #expect(try sandbox.status(name, "state")?.stringValue == "frozen")
    #expect(try sandbox.succeed("list").contains("frozen"))
    for verb in [["units", name], ["wait", name, "--for", "dbus"]] {
      let outcome = try sandbox.hengectl(verb)
      expectRefusal(outcome, code: 1, "frozen", "hengectl thaw \(name)")
      #expect(outcome.seconds < 5)
    }
    try sandbox.succeed("thaw", name)
    #expect(read("\(group)/payload/cgroup.events")?.contains("frozen 0") ?? false)
    #expect(try sandbox.succeed("wait", name) == "\(name) is running")
    #expect(try sandbox.succeed("units", name).contains("systemd-journald.service"))
  }

  private func reexecute(_ guest: Guest) throws {
    for verb in ["daemon-reexec", "daemon-reload"] {
      try guest.succeed("systemctl", verb)
      #expect(try sandbox.succeed("wait", name, "--timeout", "30") == "\(name) is running", "\(verb)")
      #expect(try sandbox.succeed("units", name).contains("systemd-journald.service"), "\(verb)")
      #expect(try sandbox.guest(name).leader == guest.leader)
    }
  }

  private func softReboot(_ guest: Guest) throws {
    let events = try EventReader(sandbox, name)
    try guest.succeed("touch", "/run/kept-over-a-soft-reboot")
    _ = try guest.run("systemctl", "soft-reboot")
    #expect(try events.next("soft-reboot") && events.next("booting") && events.next("running"))
    #expect(try sandbox.status(name, "state")?.stringValue == "running")
    let after = try sandbox.guest(name)
    #expect(after.leader == guest.leader)
    #expect(try after.succeed("systemctl", "show", "-P", "SoftRebootsCount") == "1")
    #expect(try after.run("test", "-e", "/run/kept-over-a-soft-reboot").code == 0)
    // The bus is another one.
    #expect(try sandbox.succeed("units", name).contains("dbus.service"))
    #expect(try sandbox.succeed("wait", name, "--for", "dbus.service", "--timeout", "10").contains("is active"))
  }

  private func reboot(_ guest: Guest, _ identity: [String]) throws {
    try guest.shell("echo before the reboot > /dev/console")
    let ended = try Pidfd(opening: guest.leader)
    let events = try EventReader(sandbox, name)
    _ = try guest.run("systemctl", "reboot")
    #expect(try events.next("rebooting") && events.next("running"))
    var poll = pollfd(fd: ended.descriptor.raw, events: Int16(POLLIN), revents: 0)
    #expect(Glibc.poll(&poll, 1, 0) == 1, "the old process 1 has ended")
    let after = try sandbox.guest(name)
    #expect(try self.identity(of: after) == identity)
    #expect(after.leader != guest.leader)
    let console = "\(sandbox.state)/machines/\(name)/console.log"
    // More than once: a getty that begins just then empties the terminal.
    try until("it is in the log") {
      try after.shell("echo after the reboot > /dev/console")
      return read(console)?.contains("after the reboot") ?? false
    }
    let text = read(console) ?? ""
    #expect(text.contains("before the reboot") && text.contains("after the reboot"), "one console over the reboot")
  }

  /// Process 1 hears neither the bus nor signals; at the deadline of two seconds everything is killed.
  private func stopped(_ identity: [String]) throws {
    let guest = try sandbox.guest(name)
    kill(guest.leader, SIGSTOP)
    let outcome = try sandbox.hengectl("reboot", name, deadline: 30)
    #expect(outcome.code == 0 && outcome.seconds > 1.9 && outcome.seconds < 10, "\(outcome)")
    let after = try sandbox.guest(name)
    #expect(after.leader != guest.leader)
    #expect(try self.identity(of: after) == identity)
    kill(after.leader, SIGSTOP)
    let ending = try sandbox.hengectl("poweroff", name, deadline: 30)
    #expect(ending.code == 0 && ending.seconds > 1.9 && ending.seconds < 10, "\(ending)")
    #expect(Host.processes(ofUIDs: after.uids).isEmpty)
    #expect(try sandbox.succeed("events", "--lines", "2", name).contains("how=deadline"))
  }

  private func powerOff() throws {
    try sandbox.succeed("start", name)
    let guest = try sandbox.guest(name)
    _ = try guest.run("systemctl", "poweroff")
    let outcome = try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "30", "--json")
    #expect(outcome.code == 0, "\(outcome)")
    #expect(Host.processes(ofUIDs: guest.uids).isEmpty)
    #expect(try sandbox.status(name, "state")?.stringValue == "stopped")
  }
}
