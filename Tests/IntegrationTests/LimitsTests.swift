import Glibc
import Linux
import Testing
import Varlink

/// The controllers of version 2 that groups below the tests' own can have.
private let controllers: Set<String> = {
  guard let mount = Host.cgroupMount, let own = Host.cgroup(getpid()) else { return [] }
  return Set(
    (read("\(mount)\(own == "/" ? "" : own)/cgroup.controllers") ?? "").split { $0 == " " || $0 == "\n" }.map(
      String.init))
}()

extension Trait where Self == ConditionTrait {
  fileprivate static var needsNoMemoryController: Self {
    .enabled(if: !controllers.contains("memory"), "needs a host without the memory controller")
  }
}

/// Limits on this host. That they hold is shown where there are controllers: on the emulated host.
@Suite(.needsRoot, .needsPrograms, .needsImages, .serialized) struct LimitsTests {
  @Test(.needsNoMemoryController) func aLimitWithoutItsControllerIsRefusedByNameAndNothingIsLeft() throws {
    try withSandbox("limits") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("m")
      try sandbox.succeed("create", "trixie", name)
      let before = sandbox.snapshot()
      for setting in ["MemoryMax=1G", "MemorySwapMax=0", "OOMPolicy=kill"] {
        let outcome = try sandbox.hengectl("start", name, "-s", setting)
        #expect(outcome.code == 5, "\(outcome)")
        #expect(outcome.errors.contains("\(setting.prefix { $0 != "=" })= needs the memory controller"), "\(outcome)")
        #expect(outcome.errorLines.count == 1, "\(outcome)")
      }
      let devices = try sandbox.hengectl("start", name, "-s", "DeviceAllow=/dev/fuse")
      #expect(devices.code == 5 && devices.errors.contains("DeviceAllow="), "\(devices)")
      #expect(sandbox.difference(from: before).isEmpty)
    }
  }

  @Test func whatIsBadChangesNothingAndWhatIsKeptIsInTheSpec() throws {
    try withSandbox("limits") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("m")
      try sandbox.succeed("create", "trixie", name, "-s", "OOMPolicy=continue")
      let folder = "\(sandbox.configuration)/\(name).machine.d"

      let stopped = try sandbox.hengectl("set-limit", name, "OOMPolicy=continue")
      #expect(stopped.code == 1 && stopped.errors.contains("--persist"), "\(stopped)")
      for view in ["stopped", "running"] {
        if view == "running" { try sandbox.succeed("start", name) }
        for bad in [
          ["MemoryMax"], ["Hostname=x"], ["MemoryMaxx=1G"], ["OOMPolicy=continue", "TasksMax=0"],
          ["OOMPolicy=continue", "CPUQuota=much"], ["=1"],
        ] {
          let outcome = try sandbox.hengectl(["set-limit", "--persist", name] + bad)
          #expect(outcome.code == 2, "\(view): \(outcome)")
          #expect(outcome.errorLines.count == 1, "\(view): \(outcome)")
        }
        #expect(access(folder, F_OK) < 0, "\(view): nothing is kept of what was refused")
      }
      if !controllers.contains("memory") {
        let outcome = try sandbox.hengectl("set-limit", "--persist", name, "OOMPolicy=continue", "MemoryMax=1G")
        #expect(outcome.code == 5 && outcome.errors.contains("MemoryMax="), "\(outcome)")
        #expect(access(folder, F_OK) < 0)
      }

      // The empty value takes away what the spec says.
      try sandbox.succeed("set-limit", "--persist", name, "OOMPolicy=")
      #expect(read("\(folder)/50-limits.conf")?.contains("[Resources]\nOOMPolicy=\n") == true)
      #expect(try !sandbox.succeed("show", "--spec", name).contains("OOMPolicy"))
      try sandbox.succeed("terminate", name)
      try sandbox.succeed("set-limit", "--persist", name, "OOMPolicy=continue", "TasksMax=500")
      #expect(try sandbox.succeed("show", "--spec", name).contains("TasksMax=500"))
      // A clone has the same, and both go with their machines.
      let other = sandbox.name("c")
      try sandbox.succeed("clone", name, other)
      #expect(try sandbox.succeed("show", "--spec", other).contains("TasksMax=500"))
      try sandbox.succeed("remove", name, other)
      #expect(names(in: sandbox.configuration).isEmpty, "\(names(in: sandbox.configuration))")
    }
  }

  @Test func topShowsWhatTheGroupsSay() throws {
    try withSandbox("limits") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("m")
      try sandbox.succeed("create", "trixie", name)
      #expect(try sandbox.succeed("top") == "no machine is running")
      let stopped = try sandbox.hengectl("top", name)
      #expect(stopped.code == 1 && stopped.errors.contains("not running"), "\(stopped)")
      #expect(try sandbox.hengectl("top", sandbox.name("none")).code == 4)

      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      try guest.succeed("systemd-run", "--quiet", "--unit=burn", "perl", "-e", "1 while 1")
      let sample = try sandbox.hengectl("top", "--json", name).json()
      let row = try #require(sample[0])
      #expect(row["name"]?.stringValue == name)
      #expect(try #require(row["cpuPercent"]?.doubleValue) > 5, "\(row.compact)")
      let group = try #require(guest.state["cgroup"]?.stringValue)
      let used = (read("\(group)/cpu.stat") ?? "").split(separator: "\n").first.flatMap { Int64($0.dropFirst(11)) } ?? 0
      #expect(try #require(row["cpuMicroseconds"]?.intValue) <= used)
      // What no controller counts is not guessed.
      for (file, key) in [("memory.current", "memory"), ("pids.current", "tasks"), ("io.stat", "readBytes")] {
        #expect((row[key]?.intValue != nil) == (access("\(group)/\(file)", F_OK) == 0), "\(key)")
      }
      let lines = try sandbox.succeed("top").split(separator: "\n")
      #expect(lines.count == 2 && lines[0].hasPrefix("MACHINE") && lines[1].hasPrefix(name), "\(lines)")
      try sandbox.succeed("terminate", name)
    }
  }
}
