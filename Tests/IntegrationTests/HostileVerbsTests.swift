import Glibc
import Linux
import Testing

/// Every verb that reaches into a machine, against everything that a machine can put in its way.
@Suite("Hostile guests and every verb", .serialized)
struct HostileVerbsTests {
  /// What is done in the machine before each row of the table.
  private static func attacks(_ decoy: String) -> [(name: String, line: String)] {
    let both = "for path in /run/systemd/private /run/dbus/system_bus_socket; do rm -rf $path;"
    return HostilePeer.ways.map { ("answers: \($0)", "perl /root/peer.pl \($0) >/dev/null 2>&1 </dev/null") } + [
      ("links to the host", "\(both) ln -s \(decoy)/bus $path; done"),
      ("FIFOs", "\(both) mkfifo $path; done"),
      ("devices", "\(both) mknod $path c 1 3 || echo x >$path; done"),
      (
        "its files",
        """
        for path in /etc/passwd /etc/group /etc/nsswitch.conf /etc/hostname /etc/os-release; do
          mv $path $path.kept; ln -s \(decoy)/victim $path
        done
        rm /etc/group; mkfifo /etc/group
        rm -rf /var/log/journal /run/log/journal; ln -s \(decoy) /var/log/journal; ln -s \(decoy) /run/log/journal
        mv /bin/sh /bin/sh.kept; ln -s \(decoy)/victim /bin/sh
        """
      ),
    ]
  }

  private static let returned = "until [ -S /run/systemd/private ]; do sleep 0.1; done"

  private static func verbs(_ machine: String, _ folder: String, _ row: Int) -> [[String]] {
    [
      ["units", machine], ["units", "--json", machine], ["units", "--failed", machine],
      ["status", machine], ["status", "--json", machine], ["show", machine], ["show", "--json", machine],
      ["list"], ["list", "--json"], ["top", "--json"], ["events", machine], ["events", "--json", machine],
      ["wait", "--timeout", "3", machine], ["wait", "--for", "evil.service", "--timeout", "3", machine],
      ["exec", machine, "--", "/usr/bin/true"], ["exec", "--user", "daemon", machine, "--", "/usr/bin/true"],
      ["exec", "--timeout", "2", machine, "--", "/usr/bin/sleep", "9"], ["shell", machine, "/usr/bin/true"],
      ["port", machine, "list"], ["journal", machine, "-n", "3"],
      ["journal", machine, "-n", "3", "-o", "json"], ["console", "--history", machine],
      ["copy-to", machine, "\(folder)/given", "/root/given-\(row)"],
      ["copy-from", machine, "/root/peer.pl", "\(folder)/taken-\(row)"],
      ["bind", machine, "\(folder)/given", "/mnt/\(row)", "--mkdir"],
    ]
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyVerbEndsWithOneHarmlessLine() throws {
    try withSandbox("hostile") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let machine = sandbox.name("hostile")
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      let guest = try sandbox.guest(machine)
      try write(HostilePeer.source, to: "\(sandbox.work)/peer.pl")
      try write("given", to: "\(sandbox.work)/given")
      try sandbox.succeed("copy-to", machine, "\(sandbox.work)/peer.pl", "/root/peer.pl")
      let decoy = try Descriptor.open(sandbox.decoy, .directory).bindSocket("bus", datagram: false)
      for path in [sandbox.folder, sandbox.decoy, "\(sandbox.decoy)/bus"] {
        try check(chmod(path, 0o777), "open to all")
      }
      let watch = try Watch(sandbox.decoy)
      // Names of its own, as bad as they can be: of the system, of a unit, of what it logs and prints.
      let evil = #"\033[31mred\033]0;owned\007\302\233 \342\200\256 rtl \342\201\246 x"#
      try guest.shell(
        """
        printf '\(evil)' >/proc/sys/kernel/hostname
        printf '[Unit]\\nDescription=\(evil)\\n[Service]\\nExecStart=/bin/sh -c "echo broken; exit 1"\\n' \
          >/run/systemd/system/evil.service
        systemctl daemon-reload; systemctl start evil; printf '\(evil)\\n' | logger -t evil
        head -c 1000000 /dev/zero | tr '\\0' x | logger -t long --size 1MiB; printf '\(evil)\\n' >/dev/console
        journalctl --sync; systemctl stop dbus.socket dbus.service
        """)
      let supervisor = try #require(try sandbox.status(machine, "supervisor")?.intValue.flatMap { Int32(exactly: $0) })
      // Its own systemd is not asked before: what is connected already stays so.
      let rows =
        Self.attacks(sandbox.decoy) + [
          // A systemd that executes itself anew, as by SIGTERM, has a socket again.
          ("its names", "kill -KILL $(cat /run/peers); rm -rf /run/systemd/private; kill -TERM 1; \(Self.returned)"),
          ("process 1 stopped", "true"),
        ]
      for (number, row) in rows.enumerated() {
        try guest.run("/bin/bash", "-c", row.1)
        if row.0 == "process 1 stopped" { kill(guest.leader, SIGSTOP) }
        try attack(row.0, Self.verbs(machine, sandbox.work, number), sandbox)
        let resident = Host.status(supervisor, "VmRSS")?.split(separator: " ").first.flatMap { Int($0) }
        #expect((resident ?? .max) < 128 << 10, "\(row.0)")
        #expect(names(in: "/proc/\(supervisor)/fd").count < 60, "\(row.0)")
      }
      var poll = pollfd(fd: decoy.raw, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 0) == 0, "somebody connected to the host's socket")
      #expect(watch.isQuiet, "somebody looked at the host's files")
      try sandbox.succeed("terminate", "--timeout", "10", machine, deadline: 20)
      #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
    }
  }

  /// Calls all verbs at once, as each may have to wait for an answer until its patience is over.
  private func attack(_ name: String, _ verbs: [[String]], _ sandbox: Sandbox) throws {
    let programs = try verbs.map { try sandbox.start($0) }
    var slowest = (0.0, "")
    for (verb, program) in zip(verbs, programs) {
      let outcome = try program.wait(deadline: 60)
      let seen = Comment(rawValue: "\(name): \(outcome.description.prefix(2000))")
      if outcome.seconds > slowest.0 { slowest = (outcome.seconds, verb[0]) }
      #expect(!outcome.isTimedOut && [0, 1, 3, 124, 126, 127].contains(outcome.code), seen)
      #expect(outcome.errorLines.allSatisfy { $0.utf8.count < 8192 } && outcome.output.utf8.count < 8 << 20, seen)
      // Into a pipe these two are as they are.
      if ["journal", "console"].contains(verb[0]) { continue }
      #expect(outcome.code == 0 || outcome.errorLines.count == 1, seen)
      expectHarmless(outcome)
      if verb.contains("--json"), outcome.code == 0 {
        try write(outcome.output, to: "\(sandbox.work)/answer")
        let lines = verb[0] == "events" ? ["--json-lines"] : []
        try runWell(["python3", "-m", "json.tool"] + lines + ["\(sandbox.work)/answer"])
      }
    }
    // What we say ourselves on a terminal begins with clearing the line.
    for verb in [["journal", "-n", "20", "--no-pager"], ["console", "--history"]] {
      let attached = try Attached(
        ["\(Checkout.programs)/hengectl", verb[0], verbs[0][1]] + verb.dropFirst(), environment: sandbox.environment)
      _ = try attached.finish(seconds: 60)
      expectHarmless(
        Outcome(
          code: 0, output: attached.output.replacing("\r\n", with: "\n").replacing("\r\u{1b}[K", with: ""), errors: "",
          seconds: 0, isTimedOut: false,
          arguments: verb))
    }
    print("hostile: \(name): all verbs ended, \(slowest.1) last, after \(rounded(slowest.0)) s")
  }
}
