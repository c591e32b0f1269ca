import Glibc
import Linux
import Testing

/// Machines that do their worst to whoever runs a command in them.
@Suite("Hostile guests and exec", .serialized)
struct HostileExecTests {
  private func withTrixie(_ purpose: String, _ body: (Sandbox, String, Guest) throws -> Void) throws {
    try withSandbox(purpose) { sandbox in
      try sandbox.image("trixie")
      let machine = sandbox.name(purpose)
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      try body(sandbox, machine, try sandbox.guest(machine))
      try sandbox.succeed("terminate", machine)
      let left = sandbox.snapshot()
      #expect(left.groups.isEmpty && left.processes.isEmpty)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func noSocketOfAGuestLeadsOutOfIt() throws {
    try withTrixie("execsock") { sandbox, machine, guest in
      try check(mkdir("\(sandbox.folder)/decoy", 0o755), "make", "a folder")
      let decoy = try Descriptor.open("\(sandbox.folder)/decoy", .directory).bindSocket("bus", datagram: false)
      try check(chmod("\(sandbox.folder)/decoy/bus", 0o777), "open to all")
      try check(chmod(sandbox.folder, 0o755), "open to all")
      let silent =
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => \"/run/systemd/private\", Listen => 5); sleep 1000' >/dev/null 2>&1 </dev/null & sleep 1"
      for change in [
        "ln -s \(sandbox.folder)/decoy/bus /run/systemd/private", "mkfifo /run/systemd/private",
        "mknod /run/systemd/private c 1 3 || echo x >/run/systemd/private",
      ] {
        try guest.shell("rm -rf /run/systemd/private; \(change)")
        // No systemd takes a command there, and a joined process does without one.
        for verb in [["exec", machine, "--", "true"], ["shell", machine, "true"]] {
          let outcome = try sandbox.hengectl(verb, deadline: 10)
          #expect(outcome.succeeded && outcome.errors.isEmpty, "\(change): \(outcome)")
        }
        expectRefusal(try sandbox.hengectl("login", machine, deadline: 10), code: 1)
      }
      try guest.shell("rm -rf /run/systemd/private; \(silent)")
      expectRefusal(try sandbox.hengectl("exec", machine, "--", "true", deadline: 15), code: 124, "in time")
      var poll = pollfd(fd: decoy.raw, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 0) == 0, "somebody connected to the host's socket")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aStoppedProcess1HoldsNoCommandUp() throws {
    try withTrixie("execstop") { sandbox, machine, guest in
      let early = try sandbox.start(["exec", machine, "--", "sleep", "3"])
      pause(milliseconds: 1500)
      kill(guest.leader, SIGSTOP)
      for verb in [["exec", machine, "--", "true"], ["exec", "--timeout", "1", machine, "--", "true"]] {
        let outcome = try sandbox.hengectl(verb, deadline: 15)
        expectRefusal(outcome, code: 124, "time")
      }
      // What ran already ended meanwhile, and process 1 does not say how.
      let outcome = try early.wait(deadline: 20)
      expectRefusal(outcome, code: 124, "did not answer in time")
      kill(guest.leader, SIGCONT)
      #expect(try sandbox.succeed("exec", machine, "--", "echo", "again", deadline: 20) == "again")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aStoppedProcess1KeepsNoCommandAlive() throws {
    try withTrixie("execkill") { sandbox, machine, guest in
      let program = try sandbox.start(["exec", machine, "--", "sleep", "1234"])
      pause(milliseconds: 1500)
      kill(guest.leader, SIGSTOP)
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 10)
      let end = now() + 15_000_000_000
      let sleeps = { Host.processes(ofUIDs: guest.uids).contains { $0.contains("sleep") } }
      while sleeps(), now() < end { pause(milliseconds: 100) }
      #expect(!sleeps())
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func nothingOfAGuestsFilesIsReadByUs() throws {
    try withTrixie("execfiles") { sandbox, machine, guest in
      // Users are looked up inside, by whoever it is that looks there: a name service that never answers.
      try guest.shell("mv /etc/passwd /etc/passwd.kept; mkfifo /etc/passwd")
      let outcome = try sandbox.hengectl("exec", "--user", "daemon", machine, "--", "true", deadline: 40)
      #expect(outcome.code != 0 && outcome.errorLines.count == 1 && !outcome.isTimedOut, "\(outcome)")
      try guest.shell("rm /etc/passwd; mv /etc/passwd.kept /etc/passwd")
      // A shell that is a device, a link to nowhere or a folder is not run, and nobody waits for it.
      for shell in ["ln -s /proc/1/root/etc/shadow /bin/sh", "mkfifo /bin/sh", "mkdir /bin/sh"] {
        try guest.run("/bin/bash", "-c", "[ -e /bin/sh.kept ] || mv /bin/sh /bin/sh.kept; rm -rf /bin/sh; \(shell)")
        let outcome = try sandbox.hengectl("shell", machine, deadline: 40)
        #expect([126, 127].contains(outcome.code) && outcome.errorLines.count == 1, "\(shell): \(outcome)")
        expectHarmless(outcome)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func wordsOfTheCommandLineAreHarmless() throws {
    try withTrixie("execwords") { sandbox, machine, _ in
      for word in ["\u{1b}[31mred\u{1b}]0;x\u{7}", "a\nb", "\u{202e}rtl", String(repeating: "x", count: 100_000)] {
        let outcome = try sandbox.hengectl("exec", machine, "--", word, deadline: 20)
        #expect(outcome.code != 0 && outcome.errorLines.count == 1, "\(outcome)")
        expectHarmless(outcome)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatCannotRunCommandsSaysSoAtOnce() throws {
    try withTrixie("execphase") { sandbox, machine, guest in
      let state = try sandbox.hengectl("status", "--json", machine).json()
      let group = try #require(state["cgroup"]?.stringValue)
      try write("1", to: "\(group)/payload/cgroup.freeze")
      let frozen = try sandbox.hengectl("exec", machine, "--", "true", deadline: 5)
      expectRefusal(frozen, code: 1, "frozen", "thaw")
      try write("0", to: "\(group)/payload/cgroup.freeze")
      #expect(try sandbox.succeed("exec", machine, "--", "echo", "thawed") == "thawed")
      let stopped = sandbox.name("stopped")
      try sandbox.succeed("create", "trixie", stopped)
      expectRefusal(try sandbox.hengectl("exec", stopped, "--", "true", deadline: 5), code: 1, "not running", "start")
      expectRefusal(
        try sandbox.hengectl("exec", sandbox.name("none"), "--", "true", deadline: 5), code: 4, "there is none")
      // A machine that stops takes its commands with it, and tells.
      let program = try sandbox.start(["exec", machine, "--", "sleep", "1234"])
      pause(milliseconds: 500)
      try sandbox.succeed("poweroff", machine)
      let outcome = try program.wait(deadline: 10)
      #expect([143, 129, 1].contains(outcome.code) && !outcome.isTimedOut, "\(outcome)")
      try sandbox.succeed("start", machine)
      withExtendedLifetime(guest) {}
    }
  }
}
