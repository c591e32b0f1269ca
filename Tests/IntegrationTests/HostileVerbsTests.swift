import Glibc
import Linux
import Testing

/// Every verb that touches a machine, against everything that a machine can put in its way.
@Suite("Hostile guests and every verb", .serialized)
struct HostileVerbsTests {
  /// A socket of the host's, open to all, where links of a machine's lead to, and what tells of a look at it.
  private func makeDecoy(_ sandbox: Sandbox) throws -> (socket: Descriptor, watch: Watch, host: String) {
    let decoy = try Descriptor.open(sandbox.decoy, .directory).bindSocket("bus", datagram: false)
    for path in [sandbox.folder, sandbox.decoy, "\(sandbox.decoy)/bus"] { try check(chmod(path, 0o777), "open to all") }
    let host = try sandbox.host()
    return (decoy, try Watch(sandbox.decoy), host)
  }

  private func expectUntouched(_ decoy: (socket: Descriptor, watch: Watch, host: String), _ what: String = "") {
    var poll = pollfd(fd: decoy.socket.raw, events: Int16(POLLIN), revents: 0)
    #expect(Glibc.poll(&poll, 1, 0) == 0, "somebody connected to the host's socket \(what)")
    #expect(decoy.watch.isQuiet, "somebody looked at the host's files \(what)")
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
      let decoy = try makeDecoy(sandbox)
      // Names of its own, as bad as they can be: of the system, of a unit, of what it logs and prints.
      let evil = HostileTable.evil
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
      let table = HostileTable(sandbox: sandbox, machine: machine)
      // Its own systemd is not asked before: what is connected already stays so.
      for (number, row) in table.attacks().enumerated() {
        try guest.run("/bin/bash", "-c", row.line)
        if row.name == "process 1 stopped" { kill(guest.leader, SIGSTOP) }
        try table.call(row.name, number)
        if ["answers: units", "its names"].contains(row.name) { try table.look(row.name) }
        let resident = Host.status(supervisor, "VmRSS")?.split(separator: " ").first.flatMap { Int($0) }
        #expect((resident ?? .max) < 128 << 10, "\(row.name)")
        #expect(names(in: "/proc/\(supervisor)/fd").count < 60, "\(row.name)")
      }
      expectUntouched(decoy)
      #expect(try sandbox.host() == decoy.host, "something of the host changed")
      for verb in [
        ["reboot", "--timeout", "1", machine], ["poweroff", "--timeout", "1", machine],
        ["wait", "--for", "stopped", "--timeout", "1", machine],
      ] { expectRefusal(try sandbox.hengectl(verb, deadline: 20), code: 124, "time was over") }
      try sandbox.succeed("terminate", "--timeout", "10", machine, deadline: 20)
      #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
    }
  }

  /// A machine whose bus is a trap is stopped all the same, and comes again when that is asked for.
  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func everyMachineCanBeEndedAndStartedAnew() throws {
    try withSandbox("ends") { sandbox in
      try sandbox.makeWork()
      let decoy = try makeDecoy(sandbox)
      let modes = ["link \(sandbox.decoy)/bus", "fifo", "file", "garbage", "deaf", "flood-for-ever", "escape"]
      let machines = try modes.enumerated().map { number, mode in
        let root = try sandbox.makeRoot("root\(number)", mode: mode)
        try sandbox.succeed("import-fs", root, "image\(number)")
        let machine = sandbox.name("ends\(number)")
        try sandbox.succeed("create", "-s", "TimeoutStopSec=3", "image\(number)", machine)
        return (mode, machine)
      }
      /// All at once, since most of it is waiting.
      func all(_ verb: String..., codes: [Int32]) throws {
        let programs = try machines.map { ($0.0, try sandbox.start(verb + [$0.1])) }
        for (mode, program) in programs {
          let outcome = try program.wait(deadline: 60)
          let seen = Comment(rawValue: "\(mode): \(outcome)")
          #expect(!outcome.isTimedOut && codes.contains(outcome.code), seen)
          // A machine that does not come up well has its failed units before the line.
          let last = outcome.errorLines.last ?? ""
          #expect(outcome.code == 3 ? last.contains("cannot boot") : outcome.errors.isEmpty, seen)
          expectHarmless(outcome)
        }
      }
      let leaders = {
        try machines.map { try sandbox.status($0.1, "leader")?.intValue.flatMap { Int32(exactly: $0) } ?? 0 }
      }
      try all("start", "--timeout", "30", codes: [3])
      let first = try leaders()
      #expect(first.allSatisfy { $0 > 0 })
      try all("freeze", codes: [0])
      try all("reboot", "--timeout", "50", codes: [3])
      let second = try leaders()
      #expect(second.allSatisfy { $0 > 0 } && Set(first).isDisjoint(with: second))
      try all("poweroff", "--timeout", "50", codes: [0])
      #expect(try leaders() == machines.map { _ in 0 })
      #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
      expectUntouched(decoy)
    }
  }

  /// What a machine has made of its files is met again when it is stopped: by what reads, copies, renames and removes it.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aStoppedMachineLeadsNobodyAstray() throws {
    try withSandbox("corpse") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let decoy = try makeDecoy(sandbox)
      let links = "ln -s \(sandbox.decoy)"
      for (number, trick) in [
        // A clone of these is somebody new all the same, or is refused.
        "rm -rf etc/ssh; \(links) etc/ssh", "rm -f etc/machine-id; \(links)/victim etc/machine-id",
        "rm -rf etc; \(links) etc", "mkdir -p var/lib; rm -rf var/lib/dbus; \(links) var/lib/dbus",
        "mkdir -p etc/ssh; mkfifo etc/ssh/ssh_host_rsa_key; \(links)/victim etc/ssh/ssh_host_dsa_key",
        // Depth, names, what no copy takes along by reading it.
        """
        mkdir -p srv && cd srv; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; cd "$0/srv"
        touch "$(printf '\(HostileTable.evil)')" "$(printf 'a\\nb')" -- -rf; mkfifo fifo; mknod null c 1 3; mknod gone c 0 0
        \(links)/victim link; cp /bin/true id; chmod 6755 id; truncate -s 1T holes
        perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1)'
        """,
        "mkdir -p var/log; rm -rf var/log/journal; \(links) var/log/journal",
      ].enumerated() {
        let (machine, renamed, copy) = (
          sandbox.name("m\(number)"), sandbox.name("r\(number)"), sandbox.name("c\(number)")
        )
        try sandbox.succeed("create", "trixie", machine)
        let upper = sandbox.upper(machine)
        try runWell(["sh", "-ec", "cd \"$0\"; mkdir -p etc; \(trick)", upper])
        let table = HostileTable(sandbox: sandbox, machine: renamed)
        for verb in [
          ["rename", machine, renamed], ["clone", renamed, copy],
          ["clone", "--new-host-keys", renamed, "\(copy)-keys"],
          ["journal", renamed, "-n", "3"], ["console", "--history", renamed], ["status", "--json", renamed],
          ["show", renamed], ["events", "--json", renamed], ["set-limit", renamed, "TasksMax=100", "--persist"],
          ["exec", renamed, "--", "true"], ["login", renamed], ["kill", renamed], ["freeze", renamed],
          ["bind", renamed, sandbox.work, "/mnt"], ["unbind", renamed, "/mnt"], ["reboot", renamed],
          ["poweroff", renamed], ["top", "--json", renamed], ["copy-from", renamed, "/etc", sandbox.work],
          ["wait", "--for", "dbus", "--timeout", "1", renamed],
        ] {
          let outcome = try sandbox.hengectl(verb, deadline: 60)
          try table.check(trick, verb, outcome)
          if verb[0] == "rename" { #expect(outcome.code == 0, "\(outcome)") }
        }
        let left = names(in: "\(sandbox.state)/machines").filter { !$0.hasPrefix(".") }
        for name in left { try sandbox.succeed("remove", name) }
        #expect(names(in: "\(sandbox.state)/machines") == [], "\(trick)")
        expectUntouched(decoy, trick)
      }
      #expect(read("\(sandbox.decoy)/victim") == "the host's own\n")
    }
  }
}
