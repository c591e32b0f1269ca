import Glibc
import Linux
import Testing
import Varlink

/// Who ends in the middle of a copy.
enum CopyVictim: String, CaseIterable, Sendable {
  case hengectl, importer, joined, interrupted, terminated
}

@Suite("Copying while somebody works against it", .serialized)
struct CopyFaultTests {
  /// The processes of a machine's copy that were joined: the supervisor's child, and its own in the machine.
  private func joined(_ supervisor: Int32) -> [Int32] {
    func children(_ parent: Int32) -> [Int32] { Host.processes.filter { Host.status($0, "PPid") == "\(parent)" } }
    return children(supervisor).filter { (read("/proc/\($0)/cmdline") ?? "").hasPrefix("henge-stage\0join") }
      .flatMap { [$0] + children($0) }
  }

  /// A file that is nothing but a hole costs a machine nothing, however large it claims to be.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func theLargestHoleHoldsNobodyUp() throws {
    try withSandbox("copy-hole") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let name = sandbox.name("hole")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      try guest.shell("truncate -s 9223372036854775807 /run/endless")
      for destination in ["-", "\(sandbox.work)/endless"] {
        let outcome = try sandbox.hengectl("copy-from", name, "/run/endless", destination, deadline: 30)
        #expect(outcome.code == 1 && !outcome.isTimedOut && outcome.errorLines.count == 1, "\(outcome)")
      }
      #expect(names(in: sandbox.work) == [])
      try guest.shell("truncate -s 1T /run/large; echo end >>/run/large")
      let archive = try sandbox.pipeline("$H copy-from \(name) /run/large - >\(sandbox.work)/tar", deadline: 60)
      #expect(archive.succeeded, "\(archive)")
      let listed = try runWell(["tar", "-tvf", "\(sandbox.work)/tar"])
      #expect(listed.contains(" 1099511627780 "), "\(listed)")
      try sandbox.succeed("terminate", name)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: CopyVictim.allCases)
  func nothingHalfMadeIsLeft(_ victim: CopyVictim) throws {
    try withSandbox("copy-kill-\(victim)") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let name = sandbox.name("k")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      let supervisor = try #require(guest.state["supervisor"]?.intValue.flatMap { Int32(exactly: $0) })
      try guest.succeed("mkdir", "/root/in", "/root/out")
      try guest.succeed(
        "sh", "-c", "echo text >/root/out/0; dd if=/dev/zero of=/root/out/big bs=1M count=400 status=none")
      mkdir("\(sandbox.work)/out", 0o755)
      let before = sandbox.snapshot()

      // In: an archive that stops in the middle. Out: the joined process is stopped, as the machine's root could do.
      let fifo = "\(sandbox.work)/fifo"
      mkfifo(fifo, 0o600)
      try runWell([
        "sh", "-c", "cd $0; echo text >a; dd if=/dev/urandom of=b bs=1M count=8 status=none; tar -cf c a b",
        sandbox.work,
      ])
      for verb in ["copy-to", "copy-from"] {
        let program: RunningProgram
        let feeder = try RunningProgram([
          "sh", "-c", "exec 3<>$0/fifo; head -c 3000000 $0/c >&3; exec sleep 60", sandbox.work,
        ])
        if verb == "copy-to" {
          program = try RunningProgram(
            ["sh", "-c", "exec $0 copy-to \(name) - /root/in <\(fifo)", "\(Checkout.programs)/hengectl"],
            environment: sandbox.environment)
          try until("the first bytes in the machine") {
            try guest.shell("test -s /root/in/.henge-copy-*/b").code == 0
          }
        } else {
          program = try sandbox.start(["copy-from", name, "/root/out", "\(sandbox.work)/out"])
          try until("a joined process") { joined(supervisor).count == 2 }
          for process in joined(supervisor) { kill(process, SIGSTOP) }
        }
        switch victim {
        case .hengectl: program.signal(SIGKILL)
        case .terminated: program.signal(SIGTERM)
        // As the terminal does: everybody in the foreground.
        case .interrupted: kill(-program.id, SIGINT)
        case .importer:
          let importers = Host.processes.filter { Host.status($0, "PPid") == "\(program.id)" }
          #expect(importers.count == 1)
          for process in importers { kill(process, SIGKILL) }
        case .joined:
          for process in joined(supervisor).dropFirst() { kill(process, SIGKILL) }
          for process in joined(supervisor) { kill(process, SIGCONT) }
        }
        if verb == "copy-from", victim == .importer {
          for process in joined(supervisor) { kill(process, SIGCONT) }
        }
        let outcome = try program.wait(deadline: 20)
        #expect(!outcome.isTimedOut && outcome.code != 0, "\(outcome)")
        if victim == .importer || victim == .joined { expectRefusal(outcome, code: 1) }
        // All of its session: its reader would hold the pipe open for itself.
        kill(-feeder.id, SIGKILL)
        _ = try feeder.wait()
        // Whoever was stopped is killed when nobody waits any more.
        try until("the end of the joined processes", within: 15) { joined(supervisor).isEmpty }
        try until("an empty destination in the machine") { try guest.succeed("ls", "-A", "/root/in") == "" }
        try until("an empty destination on the host") { names(in: "\(sandbox.work)/out").isEmpty }
      }
      let left = sandbox.difference(from: before)
      #expect(left == [])
      try sandbox.succeed("copy-to", name, "\(sandbox.work)/a", "/root/in")
      try sandbox.succeed("copy-from", name, "/root/out", "\(sandbox.work)/out")
      #expect(names(in: "\(sandbox.work)/out/out").sorted() == ["0", "big"])
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func aGuestThatExchangesEveryComponentReachesNothing() throws {
    try withSandbox("copy-swap") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let name = sandbox.name("s")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      try Swapper.compile(to: "\(sandbox.work)/swapper")
      try sandbox.succeed("copy-to", name, "\(sandbox.work)/swapper", "/root/swapper")
      // The same paths as on the host, so that the machine's links lead somewhere.
      try guest.succeed("sh", "-c", "mkdir -p $0 && echo the machine\\'s >$0/victim", sandbox.decoy)
      try runWell([
        "sh", "-c", "mkdir $0/t $0/t/u $0/out; echo new >$0/t/victim; echo new >$0/t/u/victim", sandbox.work,
      ])
      let before = try sandbox.host()
      let watch = try Watch(sandbox.decoy)
      let swapper = try RunningProgram(
        ["nsenter", "-t", "\(guest.leader)", "-a", "/root/swapper", "/root/swap", sandbox.decoy, "12"])
      var codes: [String: [Int32: Int]] = [:]
      let end = now() + 10_000_000_000
      var round = 0
      while now() < end {
        round += 1
        let attempts = [
          ["copy-to", "--force", name, "\(sandbox.work)/t", "/root/swap/a/b"],
          ["copy-to", "--force", name, "\(sandbox.work)/t/victim", "/root/swap/a/b/c/"],
          ["copy-to", "--force", name, "\(sandbox.work)/t", "/root/swap/a"],
          ["copy-from", "--skip-special", name, "/root/swap/a", "\(sandbox.work)/out/\(round)"],
          ["copy-from", name, "/root/swap/a/b/c/file", "\(sandbox.work)/out/f\(round)"],
        ]
        for arguments in attempts {
          let outcome = try sandbox.hengectl(arguments, deadline: 30)
          #expect([0, 1].contains(outcome.code) && !outcome.isTimedOut, "\(outcome)")
          if outcome.code == 1 { #expect(outcome.errorLines.count == 1, "\(outcome)") }
          expectHarmless(outcome)
          codes[arguments[0], default: [:]][outcome.code, default: 0] += 1
        }
      }
      _ = try swapper.wait(deadline: 30)
      #expect(watch.isQuiet, "somebody touched the host's decoys")
      #expect(try sandbox.host() == before)
      // Of what came out, nothing is the host's, and nothing is a link that was followed.
      #expect(try runWell(["sh", "-c", "grep -rl 'the host' $0 || true", "\(sandbox.work)/out"]) == "")
      print("copies against a guest that exchanges every component, by exit code: \(codes)")
      #expect(codes.values.allSatisfy { ($0[0] ?? 0) > 0 }, "none got through: that proves nothing")
      let left = try guest.succeed("sh", "-c", "find / -xdev -name '.henge-copy-*'")
      #expect(left == "")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aMachineThatHoldsItUpIsGivenUp() throws {
    try withSandbox("copy-stall") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let name = sandbox.name("h")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      let supervisor = try #require(guest.state["supervisor"]?.intValue.flatMap { Int32(exactly: $0) })
      try guest.succeed("sh", "-c", "mkdir /root/in; dd if=/dev/zero of=/root/big bs=1M count=1024 status=none")
      // So much that it is still on its way when it is stopped.
      try runWell(["dd", "if=/dev/zero", "of=\(sandbox.work)/big", "bs=1M", "count=1024", "status=none"])
      mkdir("\(sandbox.work)/out", 0o755)
      for arguments in [
        ["copy-to", "--timeout", "1", name, "\(sandbox.work)/big", "/root/in"],
        ["copy-from", "--timeout", "1", name, "/root/big", "\(sandbox.work)/out"],
      ] {
        let program = try sandbox.start(arguments)
        try until("a joined process") { joined(supervisor).count == 2 }
        for process in joined(supervisor).dropFirst() { kill(process, SIGSTOP) }
        let outcome = try program.wait(deadline: 20)
        expectRefusal(outcome, code: 124, "nothing moved in the machine for 1 s")
        try until("the end of the joined processes", within: 15) { joined(supervisor).isEmpty }
        #expect(names(in: "\(sandbox.work)/out").isEmpty)
        try until("an empty destination") { try guest.succeed("ls", "-A", "/root/in") == "" }
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func namesOfAGuestAreHarmlessInErrors() throws {
    try withSandbox("copy-names") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let name = sandbox.name("n")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let guest = try sandbox.guest(name)
      let evil = #"$(printf '\033[31mred\033]0;owned\007\n\342\200\256end\377')"#
      try guest.succeed("sh", "-c", "mkdir /run/t; mkdir \"/run/t/\(evil)\"; mknod \"/run/t/\(evil)/\(evil)\" c 0 0")
      let refused = try sandbox.hengectl("copy-from", name, "/run/t", "\(sandbox.work)/t")
      expectRefusal(refused, code: 1, "\\x1b[31mred", "it is a device")
      #expect(names(in: sandbox.work).isEmpty)
      let hostile = "\u{1b}[31mred\n\u{202e}end"
      expectRefusal(try sandbox.hengectl("copy-from", name, "/\(hostile)", sandbox.work), code: 1, "\\x1b[31mred")
      expectRefusal(
        try sandbox.hengectl("copy-to", name, "/etc/hostname", "/\(hostile)/x"), code: 1, "\\x1b[31mred")
    }
  }
}
