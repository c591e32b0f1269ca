import Glibc
import Linux
import Testing
import Varlink

@Suite("Hostile guests", .serialized)
struct HostileGuestTests {
  /// Starts a machine whose process 1 does as the mode says, and takes it down again.
  private func withGuest(
    _ mode: String, _ sandbox: Sandbox, timeout: String = "30", _ body: (String, Outcome) throws -> Void
  ) throws {
    let root = try sandbox.makeRoot("root", mode: mode)
    let machine = try sandbox.makeMachine("guest", root: root)
    try body(machine, try sandbox.hengectl("start", "--timeout", timeout, machine))
    try sandbox.drop("guest")
    let left = sandbox.snapshot()
    #expect(left.groups.isEmpty && left.processes.isEmpty, "\(mode)")
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func theEndOfProcess1IsToldAtOnce() throws {
    try withSandbox("ends") { sandbox in
      try sandbox.makeWork()
      for (mode, words) in [("exit 7", "with status 7"), ("crash", "by signal 11"), ("exit 0", "stopped before")] {
        try withGuest(mode, sandbox) { machine, outcome in
          expectRefusal(outcome, code: 1, words, machine)
          #expect(outcome.seconds < 5)
        }
      }
      try withGuest("escape-exit", sandbox) { _, outcome in expectRefusal(outcome, code: 1, "last words: red") }
      try withGuest("never", sandbox, timeout: "1") { machine, outcome in
        expectRefusal(outcome, code: 124, "time was over")
        #expect(outcome.seconds < 8)
        #expect(try sandbox.succeed("status", machine).contains("booting"))
        expectRefusal(try sandbox.hengectl("units", machine), code: 1, "booting")
        try sandbox.succeed("poweroff", "--timeout", "10", machine)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func anInitMayBeAScript() throws {
    try withSandbox("script") { sandbox in
      try sandbox.makeWork()
      let root = "\(sandbox.work)/root"
      // A shell of the host's with the libraries that it names.
      try runWell([
        "sh", "-ec",
        """
        mkdir -p "$0/sbin" "$0/bin" "$0/usr" "$0/etc" "$0/tmp"; cp -L /bin/sh "$0/bin/sh"
        for lib in $(ldd /bin/sh | grep -o '/[^ )]*'); do mkdir -p "$0${lib%/*}"; cp -L "$lib" "$0$lib"; done
        printf '#!/bin/sh\\necho the last words\\nexit 9\\n' >"$0/sbin/init"; chmod 755 "$0/sbin/init"
        """, root,
      ])
      let machine = try sandbox.makeMachine("script", root: root)
      expectRefusal(try sandbox.hengectl("start", machine), code: 1, "with status 9", "the last words")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aFloodOfNotificationsChangesNothing() throws {
    try withSandbox("flood") { sandbox in
      try sandbox.makeWork()
      // Its children say a hundred thousand times that it is ready; it does not.
      try withGuest("flood-children", sandbox, timeout: "4") { machine, outcome in
        expectRefusal(outcome, code: 124)
        let state = try sandbox.hengectl("status", "--json", machine).json()
        #expect(state["state"]?.stringValue == "booting")
        #expect(state["status"]?.stringValue != "a child's")
      }
      // Process 1 itself: every word is taken, and the machine is not held up.
      try withGuest("flood", sandbox) { machine, outcome in
        #expect(outcome.code == 3 && !outcome.isTimedOut, "\(outcome)")
        let status = try sandbox.status(machine, "status")
        #expect(status == "number 99999")
      }
      try withGuest("flood-for-ever", sandbox) { machine, outcome in
        #expect(outcome.code == 3, "\(outcome)")
        let supervisor = try sandbox.hengectl("status", "--json", machine).json()["supervisor"]?.intValue
        let id = try #require(supervisor.flatMap { Int32(exactly: $0) })
        for _ in 0..<10 { #expect(try sandbox.hengectl("status", machine).seconds < 8) }
        let resident = Host.status(id, "VmRSS")?.split(separator: " ").first.flatMap { Int($0) }
        #expect((resident ?? .max) < 64 << 10)
        #expect(names(in: "/proc/\(id)/fd").count < 40)
        try sandbox.succeed("poweroff", "--timeout", "20", machine)
      }
      try withGuest("large", sandbox) { machine, outcome in
        #expect(outcome.code == 3, "\(outcome)")
        let status = try sandbox.status(machine, "status")
        #expect(status == "")
      }
      try withGuest("escape", sandbox) { machine, outcome in
        let shown = try sandbox.hengectl("status", machine)
        #expect(shown.output.contains("\\x1b[31mred"))
        expectHarmless(shown)
        _ = try sandbox.hengectl("status", "--json", machine).json()
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func noBusOfAGuestLeadsOutOfIt() throws {
    try withSandbox("bus") { sandbox in
      try sandbox.makeWork()
      let decoy = try Descriptor.open(sandbox.decoy, .directory).bindSocket("bus", datagram: false)
      try check(chmod("\(sandbox.decoy)/bus", 0o777), "open to all")
      try check(chmod(sandbox.folder, 0o755), "open to all")
      for mode in ["link \(sandbox.decoy)/bus", "fifo", "file", "garbage"] {
        try withGuest(mode, sandbox) { machine, outcome in
          #expect(outcome.code == 3 && !outcome.isTimedOut, "\(outcome)")
          expectHarmless(outcome)
          let units = try sandbox.hengectl("units", machine, deadline: 40)
          #expect([1, 124].contains(units.code) && units.errorLines.count == 1 && !units.isTimedOut, "\(units)")
          try sandbox.succeed("poweroff", "--timeout", "20", machine)
        }
      }
      var poll = pollfd(fd: decoy.raw, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 0) == 0, "somebody connected to the host's socket")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aDeafProcess1IsKilledWhenAsked() throws {
    try withSandbox("deaf") { sandbox in
      try sandbox.makeWork()
      try withGuest("deaf", sandbox) { machine, _ in
        expectRefusal(try sandbox.hengectl("poweroff", "--timeout", "1", machine), code: 124, "time was over")
        expectRefusal(try sandbox.hengectl("wait", "--for", "stopped", "--timeout", "1", machine), code: 124)
        try sandbox.succeed("terminate", "--timeout", "10", machine)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aStoppedProcess1HoldsNobodyUp() throws {
    try withSandbox("sigstop") { sandbox in
      try sandbox.image("trixie")
      let machine = sandbox.name("sigstop")
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      let leader = try sandbox.guest(machine).leader
      kill(leader, SIGSTOP)
      #expect(try sandbox.succeed("status", machine, deadline: 10).contains("running"))
      #expect(try sandbox.succeed("list", deadline: 10).contains("running"))
      let units = try sandbox.hengectl("units", machine, deadline: 40)
      expectRefusal(units, code: 124, "in time")
      expectRefusal(
        try sandbox.hengectl("poweroff", "--timeout", "2", machine, deadline: 10), code: 124, "time was over")
      #expect(try sandbox.succeed("status", machine, deadline: 10).contains("stopping"))
      expectRefusal(try sandbox.hengectl("units", machine, deadline: 10), code: 1, "stopping")
      try sandbox.succeed("terminate", "--timeout", "10", machine, deadline: 20)
      #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatUnitsSayIsHarmlessAndJSONIsValid() throws {
    try withSandbox("units") { sandbox in
      try sandbox.image("trixie")
      let machine = sandbox.name("units")
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      let guest = try sandbox.guest(machine)
      let unit =
        #"[Unit]\nDescription=\033[31mred\033]0;owned\007 \342\200\256 end\n[Service]\nType=oneshot\n"#
        + #"ExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"#
      _ = try guest.shell(
        "printf '\(unit)' >/etc/systemd/system/evil.service; systemctl enable evil; systemctl start evil")
      let units = try sandbox.hengectl("units", machine)
      #expect(units.output.contains("\\x1b[31mred"), "\(units)")
      expectHarmless(units)
      for arguments in [
        ["list"], ["status", machine], ["show", machine], ["show", "--spec", machine], ["units", machine],
        ["plan", machine],
        ["doctor"], ["version"], ["list-images"], ["image-status", "trixie"],
      ] {
        let outcome = try sandbox.hengectl(arguments + ["--json"])
        _ = try outcome.json()
        // A reader that is not ours.
        try write(outcome.output, to: "\(sandbox.folder)/answer")
        try runWell(["python3", "-m", "json.tool", "\(sandbox.folder)/answer"])
        expectHarmless(outcome)
      }
      // As part of a boot it fails, and is shown with its last lines.
      try sandbox.succeed("poweroff", machine)
      let start = try sandbox.hengectl("start", machine)
      #expect(start.code == 3 && start.errors.contains("evil.service - \\x1b[31mred"), "\(start)")
      expectHarmless(start)
      let status = try sandbox.hengectl("status", machine)
      #expect(status.output.contains("evil.service"))
      expectHarmless(status)
      try sandbox.succeed("poweroff", machine)
    }
  }
}
