import Glibc
import Linux
import Testing
import Varlink

/// `Restart=`: a machine that ended though nobody asked it to.
@Suite("Restart", .serialized)
struct RestartTests {
  private func state(_ sandbox: Sandbox, _ name: String) throws -> String {
    try sandbox.status(name, "state")?.stringValue ?? "?"
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatCrashedComesBackAndWhatWasStoppedDoesNot() throws {
    try withSandbox("restart") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("up")
      try sandbox.succeed(
        "create", "-s", "Restart=on-failure", "-s", "RestartSec=300ms", "-s", "StartLimitBurst=2", "trixie", name)
      try sandbox.succeed("start", name)
      let first = try sandbox.guest(name)
      let events = try EventReader(sandbox, name)
      kill(first.leader, SIGKILL)
      #expect(try events.next("crashed") && events.next("restarting"))
      #expect(["restarting", "starting", "booting"].contains(try state(sandbox, name)))
      #expect(try sandbox.succeed("wait", name, "--timeout", "30") == "\(name) is running")
      let second = try sandbox.guest(name)
      #expect(second.leader != first.leader)
      #expect(second.state["uuid"] == first.state["uuid"] && second.state["supervisor"] == first.state["supervisor"])
      #expect(second.state["restarts"] == 1)
      #expect(try second.succeed("systemctl", "is-system-running") == "running")

      // A poweroff from inside is no failure.
      _ = try second.run("systemctl", "poweroff")
      _ = try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "30")
      #expect(try state(sandbox, name) == "stopped")

      // More often than it may: the reason is told, and nothing of it is left.
      try sandbox.succeed("start", name)
      for round in 0..<2 {
        kill(try sandbox.guest(name).leader, SIGKILL)
        #expect(try events.next("restarting"), "\(round)")
        try sandbox.succeed("wait", name, "--timeout", "30")
      }
      let waiter = try sandbox.start(["wait", name, "--for", "stopped", "--timeout", "30"])
      try waiter.untilItAsked()
      kill(try sandbox.guest(name).leader, SIGKILL)
      expectRefusal(try waiter.wait(), code: 1, "by signal 9", "2 times", "left alone")
      #expect(try state(sandbox, name) == "stopped")
      #expect(sandbox.snapshot().groups.isEmpty && Host.processes(ofUIDs: first.uids).isEmpty)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func alwaysMeansAlsoAfterAPoweroffFromInsideButTheOperatorsWordCounts() throws {
    try withSandbox("always") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("on")
      try sandbox.succeed("create", "-s", "Restart=always", "-s", "RestartSec=100ms", "trixie", name)
      try sandbox.succeed("start", name)
      let events = try EventReader(sandbox, name)
      let first = try sandbox.guest(name)
      _ = try first.run("systemctl", "poweroff")
      #expect(try events.next("restarting") && events.next("running"))
      #expect(try sandbox.guest(name).leader != first.leader)
      for verb in ["poweroff", "terminate"] {
        try sandbox.succeed(verb, name)
        #expect(try state(sandbox, name) == "stopped", "\(verb)")
        try sandbox.succeed("start", name)
      }
      try sandbox.succeed("terminate", name)
    }
  }

  /// Whoever waits for the start hears what happens, and the wait between two tries can be ended.
  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func theStarterHearsOfEachTryAndOfTheEnd() throws {
    try withSandbox("tries") { sandbox in
      try sandbox.makeWork()
      let root = try sandbox.makeRoot("root", mode: "exit 7")
      try sandbox.succeed("import-fs", root, "tries")
      let (twice, long) = (sandbox.name("twice"), sandbox.name("long"))
      try sandbox.succeed(
        "create", "-s", "Restart=on-failure", "-s", "RestartSec=50ms", "-s", "StartLimitBurst=2", "tries", twice)
      let begin = try sandbox.hengectl("start", twice)
      #expect(begin.code == 1 && begin.errorLines.count == 3, "\(begin)")
      for (line, pause) in zip(begin.errorLines, ["50ms", "100ms"]) {
        #expect(
          line.contains("warning: ") && line.contains("again in \(pause)") && line.contains("status 7"), "\(line)")
      }
      #expect(begin.errorLines.last?.contains("2 times") ?? false)
      #expect(try state(sandbox, twice) == "stopped")

      try sandbox.succeed("create", "-s", "Restart=always", "-s", "RestartSec=40s", "tries", long)
      for verb in ["poweroff", "terminate"] {
        let starter = try sandbox.start(["start", long])
        let end = now() + 10_000_000_000
        while try state(sandbox, long) != "restarting", now() < end { pause(milliseconds: 20) }
        #expect(try sandbox.succeed("list").contains("restarting"))
        for refused in ["start", "freeze", "reboot", "units", "remove"] {
          #expect(try sandbox.hengectl(refused, long, deadline: 10).code == 1, "\(refused)")
        }
        let outcome = try sandbox.hengectl(verb, long, deadline: 10)
        #expect(outcome.code == 0 && outcome.seconds < 8, "\(outcome)")
        let heard = try starter.wait(deadline: 10)
        #expect(
          heard.code == 1 && heard.errorLines.last?.contains("stopped before it was running") ?? false, "\(heard)")
        #expect(try state(sandbox, long) == "stopped")
      }
      #expect(sandbox.snapshot().groups.isEmpty)
    }
  }
}
