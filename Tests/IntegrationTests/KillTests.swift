import Glibc
import Linux
import Testing
import Varlink

/// Whom `kill -9` hits.
enum Victim: String, CaseIterable, Sendable {
  case supervisor, hengectl, leader
}

/// Something of a machine is killed in the middle of a start and of a poweroff, twenty times each at another moment:
/// the next command puts all in order.
@Suite("kill -9 at any moment", .serialized)
struct KillTests {
  static let moments = 20

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: Victim.allCases)
  func theNextCommandConverges(_ victim: Victim) throws {
    try withSandbox("kill-\(victim)") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("k")
      try sandbox.succeed("create", "trixie", name)
      // The first start makes the folders that all later ones share.
      try sandbox.succeed("start", name)
      try sandbox.succeed("terminate", name)
      let before = sandbox.snapshot()
      let drill = Drill(sandbox: sandbox, name: name, victim: victim)
      var hits = (start: 0, poweroff: 0)
      for round in 0..<Self.moments {
        let part = Double(round) / Double(Self.moments - 1)
        if try drill.kill(during: "start", after: 300 * part) { hits.start += 1 }
        try drill.makeRunning()
        if try drill.kill(during: "poweroff", after: 200 * part) { hits.poweroff += 1 }
        if try drill.settledState() != "stopped" { try sandbox.succeed("terminate", name, deadline: 20) }
        let left = sandbox.difference(from: before)
        #expect(left == [], "round \(round)")
        if left != [] { break }
      }
      print("kill -9 of the \(victim): hit it \(hits.start) times in a start, \(hits.poweroff) times in a poweroff")
      // A drill that finds nobody to kill proves nothing.
      #expect(hits.start >= Self.moments / 4 && hits.poweroff >= Self.moments / 4)
      try sandbox.succeed("start", name)
      #expect(try sandbox.guest(name).succeed("systemctl", "is-system-running") == "running")
      try sandbox.succeed("terminate", name)
      try sandbox.succeed("remove", name)
      let left = sandbox.difference(from: before)
      #expect(left == [])
    }
  }
}

private struct Drill {
  let sandbox: Sandbox
  let name: String
  let victim: Victim

  /// Runs a verb, and kills the victim some milliseconds later.
  ///
  /// - Returns: whether there was somebody to kill.
  func kill(during verb: String, after milliseconds: Double) throws -> Bool {
    let program = try sandbox.start([verb, name])
    pause(milliseconds: milliseconds)
    let isHit =
      switch victim {
      case .hengectl: (try? program.process.signal(SIGKILL)) ?? false
      case .supervisor: killFirst { $0.contains("henge-supervisor") && $0.contains(name) }
      case .leader: killLeader()
      }
    // Whatever became of it, the command that was hit or whose other end was must come to its end.
    let outcome = try program.wait(deadline: 30)
    if outcome.isTimedOut { throw Complaint("the \(victim) was killed after \(milliseconds) ms of: \(outcome)") }
    try converge("the \(victim) was killed after \(milliseconds) ms of \(outcome)")
    return isHit
  }

  /// The next command after a kill answers within 5 s.
  private func converge(_ story: String) throws {
    let outcome = try sandbox.hengectl("list", "--json", deadline: 20)
    guard outcome.succeeded, outcome.seconds < 5 else { throw Complaint("\(story)\nthen: \(outcome)") }
    let state = try settledState()
    guard ["running", "stopped"].contains(state) else { throw Complaint("\(story)\nthen it is \(state)") }
  }

  /// The machine's state once it is no longer on the way from one to another.
  func settledState() throws -> String {
    let state = try sandbox.hengectl("status", "--json", name, deadline: 20).json()["state"]?.stringValue ?? "?"
    switch state {
    case "starting", "booting", "rebooting":
      try sandbox.hengectl("wait", name, "--for", "running", "--timeout", "60")
      return try sandbox.hengectl("status", "--json", name).json()["state"]?.stringValue ?? "?"
    case "stopping":
      try sandbox.hengectl("wait", name, "--for", "stopped", "--timeout", "60")
      return try sandbox.hengectl("status", "--json", name).json()["state"]?.stringValue ?? "?"
    default: return state
    }
  }

  func makeRunning() throws {
    if try settledState() == "stopped" { try sandbox.succeed("start", name) }
    guard try settledState() == "running" else { throw Complaint("\(name) does not come up") }
  }

  private func killFirst(_ isWanted: (String) -> Bool) -> Bool {
    for process in Host.processes {
      guard let held = try? Pidfd(opening: process), let line = read("/proc/\(process)/cmdline"), isWanted(line) else {
        continue
      }
      return (try? held.signal(SIGKILL)) ?? false
    }
    return false
  }

  private func killLeader() -> Bool {
    for process in Host.processes {
      guard let held = try? Pidfd(opening: process), Host.cgroup(process)?.contains("henge-\(name)-") ?? false,
        Host.status(process, "NSpid")?.split(separator: "\t").last == "1"
      else { continue }
      return (try? held.signal(SIGKILL)) ?? false
    }
    return false
  }
}
