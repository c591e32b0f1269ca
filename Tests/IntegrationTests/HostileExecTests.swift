import Glibc
import Linux
import Testing
import Varlink

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

  private func sleeps(_ guest: Guest) -> Bool {
    Host.processes(ofUIDs: guest.uids).contains { $0.contains("sleep") }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func noSocketOfAGuestLeadsOutOfIt() throws {
    try withTrixie("execsock") { sandbox, machine, guest in
      try check(mkdir("\(sandbox.folder)/decoy", 0o755), "make", "a folder")
      let decoy = try Descriptor.open("\(sandbox.folder)/decoy", .directory).bindSocket("bus", datagram: false)
      try check(chmod("\(sandbox.folder)/decoy/bus", 0o777), "open to all")
      try check(chmod(sandbox.folder, 0o755), "open to all")
      let silent =
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Local => \"/run/systemd/private\", Listen => 5); sleep 1000' >/dev/null 2>&1 </dev/null & until [ -S /run/systemd/private ]; do sleep 0.1; done"
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
      try until("it runs") { sleeps(guest) }
      kill(guest.leader, SIGSTOP)
      for verb in [["exec", machine, "--", "true"], ["exec", "--timeout", "1", machine, "--", "true"]] {
        let outcome = try sandbox.hengectl(verb, deadline: 25)
        expectRefusal(outcome, code: 124, "time")
      }
      // What ran already ended meanwhile, and process 1 does not say how.
      let outcome = try early.wait(deadline: 60)
      expectRefusal(outcome, code: 124, "did not answer in time")
      kill(guest.leader, SIGCONT)
      #expect(try sandbox.succeed("exec", machine, "--", "echo", "again", deadline: 20) == "again")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aStoppedProcess1KeepsNoCommandAlive() throws {
    try withTrixie("execkill") { sandbox, machine, guest in
      let program = try sandbox.start(["exec", machine, "--", "sleep", "1234"])
      try until("it runs") { sleeps(guest) }
      kill(guest.leader, SIGSTOP)
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 10)
      try until("it is gone") { !sleeps(guest) }
    }
  }

  /// In the machine a program takes over the output of a command as soon as that is there, and writes to it for ever.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whoKeepsAStreamHoldsNobodyUp() throws {
    let thief = #"""
      use Fcntl;
      $SIG{PIPE} = "IGNORE";
      for (;;) {
        for my $process (</proc/[0-9]*>) {
          open my $file, "<", "$process/cmdline" or next;
          next if (<$file> // "") ne "sleep\0004711\0";
          sysopen my $out, "$process/fd/1", O_WRONLY | O_NOCTTY or next;
          open my $mark, ">>", "/run/taken"; syswrite $mark, "x";
          select undef, undef, undef, 0.001 while syswrite $out, "mine\n";
        }
      }
      """#
    try withTrixie("exectheft") { sandbox, machine, guest in
      try write(thief, to: "\(sandbox.folder)/thief.pl")
      try sandbox.succeed("copy-to", machine, "\(sandbox.folder)/thief.pl", "/root/thief.pl")
      try guest.succeed("systemd-run", "--quiet", "--unit=thief", "perl", "/root/thief.pl")
      let arguments = ["exec", "--timeout", "3", machine, "--", "sleep", "4711"]
      let outcome = try sandbox.hengectl(arguments, deadline: 40)
      #expect(outcome.output.contains("mine"), "\(outcome)")
      expectRefusal(outcome, code: 124, "time was over")
      let attached = try Attached(["\(Checkout.programs)/hengectl"] + arguments, environment: sandbox.environment)
      #expect(try attached.finish(seconds: 40) == 124)
      #expect(attached.output.contains("mine") && attached.output.contains("time was over"))
      #expect(try guest.succeed("cat", "/run/taken") == "xx")
    }
  }

  /// Of what may be passed nothing but the one direction of a pipe gets into a machine, whoever asks for more.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func noOtherStreamGetsIn() throws {
    try withTrixie("execstreams") { sandbox, machine, _ in
      let pipe = try Pipe(size: 65536)
      let both = Descriptor(adopting: open("/proc/self/fd/\(pipe.input.raw)", O_RDWR | O_CLOEXEC))
      let device = Descriptor(adopting: open("/dev/zero", O_RDONLY | O_CLOEXEC))
      let file = Descriptor(adopting: open("\(sandbox.folder)/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
      let refused: [([String], Descriptor, String)] = [
        (["direct", "null", "null"], both, "another direction"),
        (["null", "direct", "null"], both, "another direction"),
        (["direct", "null", "null"], pipe.input, "another direction"),
        (["null", "null", "direct"], pipe.output, "another direction"),
        (["direct", "null", "null"], device, "only pipes"), (["pipe", "null", "null"], device, "only pipes"),
        (["null", "direct", "null"], file, "only pipes"), (["null", "other", "null"], pipe.input, "only pipes"),
      ]
      for (words, descriptor, reason) in refused {
        let client = try VarlinkClient(connectingTo: "\(sandbox.runtime)/machines/\(machine)/control")
        defer { client.close() }
        let parameters: JSON = ["command": ["true"], "streams": JSON(words)]
        let error = #expect(throws: VarlinkError.self) {
          try client.callMore("io.henge.Machine.Execute", parameters, passing: [descriptor], timeout: 10_000) { _ in
            true
          }
        }
        #expect("\(error.map(String.init(describing:)) ?? "")".contains(reason), "\(words)")
      }
      let client = try VarlinkClient(connectingTo: "\(sandbox.runtime)/machines/\(machine)/control")
      let parameters: JSON = ["command": ["echo", "in"], "streams": ["null", "direct", "null"]]
      var end: Int64?
      try client.callMore("io.henge.Machine.Execute", parameters, passing: [pipe.input], timeout: 10_000) { reply in
        end = reply["exit"]?.intValue
        return true
      }
      var bytes = [UInt8](repeating: 0, count: 8)
      #expect(end == 0 && read(pipe.output.raw, &bytes, 8) == 3)
    }
  }

  /// A terminal of the machine's, put where terminals are made, is not opened; else its keys would end the supervisor.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func noTerminalOfAGuestsBecomesOurs() throws {
    let trap = #"""
      use Fcntl;
      sysopen my $controller, "/dev/pts/ptmx", O_RDWR | O_NOCTTY or die;
      my $number = pack "i", 0;
      ioctl $controller, 0x40045431, $number or die;  # TIOCSPTLCK
      ioctl $controller, 0x80045430, $number or die;  # TIOCGPTN
      $number = unpack "i", $number;
      system("mount --bind /dev/pts/$number /dev/pts/ptmx") == 0 or die;
      for (;;) { select undef, undef, undef, 0.05; syswrite $controller, "\x03\x1c" }
      """#
    try withTrixie("exectrap") { sandbox, machine, guest in
      try write(trap, to: "\(sandbox.folder)/trap.pl")
      try sandbox.succeed("copy-to", machine, "\(sandbox.folder)/trap.pl", "/root/trap.pl")
      try guest.succeed("systemd-run", "--quiet", "--unit=trap", "perl", "/root/trap.pl")
      try until("it lies there") { try guest.run("mountpoint", "-q", "/dev/pts/ptmx").succeeded }
      let supervisor = try #require(try sandbox.status(machine, "supervisor")?.intValue)
      for verb in [["exec", "--pty", machine, "--", "true"], ["login", machine]] {
        expectRefusal(try sandbox.hengectl(verb, deadline: 30), code: 1, "mounted over")
      }
      // After the name: state, parent, group, session, and the number of its terminal.
      let fields = try #require(read("/proc/\(supervisor)/stat")).split(separator: ")").last?.split(separator: " ")
      #expect(fields?.dropFirst(4).first == "0", "it has a terminal")
      #expect(try sandbox.succeed("exec", machine, "--", "echo", "well") == "well")
      for file in ["/dev/null", "/run/fifo"] {
        try guest.shell("umount /dev/pts/ptmx; mkfifo /run/fifo; mount --bind \(file) /dev/pts/ptmx")
        let outcome = try sandbox.hengectl("exec", "--pty", machine, "--", "true", deadline: 30)
        expectRefusal(outcome, code: 1, "mounted over")
      }
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
      try until("it runs") { sleeps(guest) }
      try sandbox.succeed("poweroff", machine)
      let outcome = try program.wait(deadline: 60)
      #expect([143, 129, 1].contains(outcome.code) && !outcome.isTimedOut, "\(outcome)")
      try sandbox.succeed("start", machine)
      withExtendedLifetime(guest) {}
    }
  }
}
