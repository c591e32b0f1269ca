import Glibc
import Linux
import Testing
import Varlink

@Suite("Journal", .serialized)
struct JournalTests {
  private func boot(_ sandbox: Sandbox, _ image: String, _ settings: String...) throws -> (String, Guest) {
    try sandbox.image(image)
    let machine = sandbox.name("j")
    try sandbox.hengectl(["create", image, machine] + settings.flatMap { ["-s", $0] })
    try sandbox.succeed("start", machine)
    return (machine, try sandbox.guest(machine))
  }

  /// A unit of the machine says two lines, one of them an error.
  private func say(_ guest: Guest) throws {
    try guest.succeed(
      "systemd-run", "--quiet", "--wait", "--unit=known", "sh", "-c", "echo a known line; echo '<3>a bad line'")
    try guest.succeed("journalctl", "--sync")
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatAUnitLoggedIsFoundInEveryGuest() throws {
    let guests = ["bullseye", "bookworm", "trixie", "forky"]
    var matrix = Matrix(guests)
    defer { matrix.show("journal and units") }
    for image in guests { try look(image, &matrix) }
  }

  private func look(_ image: String, _ matrix: inout Matrix) throws {
    try withSandbox("journal") { sandbox in
      let (machine, guest) = try boot(sandbox, image)
      try say(guest)
      func journal(_ arguments: String...) throws -> String {
        let outcome = try sandbox.hengectl(["journal", machine] + arguments, deadline: 20)
        guard outcome.succeeded else { throw Complaint("\(outcome)") }
        return outcome.text
      }
      func look(_ when: String) throws {
        try matrix.check("journal -u, \(when)", image) {
          let known = try journal("-u", "known", "-o", "cat")
          try demand(known.contains("a known line\na bad line"), known)
        }
        try matrix.check("journal -p err, \(when)", image) {
          let bad = try journal("-p", "err", "-u", "known", "-o", "cat")
          try demand(bad == "a bad line", bad)
        }
        try matrix.check("journal -n 1, \(when)", image) {
          let last = try journal("-n", "1", "-o", "cat")
          try demand(last.split(separator: "\n").count == 1, last)
        }
        try matrix.check("journal -o json, \(when)", image) {
          let lines = try journal("-b", "-o", "json", "_SYSTEMD_UNIT=known.service").split(separator: "\n")
          let messages = try lines.map { try JSON(parsing: Array($0.utf8))["MESSAGE"]?.stringValue }
          try demand(messages == ["a known line", "a bad line"], "\(messages)")
        }
        try matrix.check("journal -o export, \(when)", image) {
          let export = try journal("-u", "known", "-o", "export")
          try demand(export.contains("MESSAGE=a known line"), export)
        }
      }
      try look("running")
      try matrix.check("journal -f", image) {
        let follower = try sandbox.live("journal", machine, "-f", "-n", "1", "-o", "cat")
        try follower.waitFor("\n", deadline: 10)
        try guest.succeed("systemd-run", "--quiet", "--unit=later", "echo", "a later line")
        try follower.waitFor("a later line", deadline: 10)
      }
      try matrix.check("units", image) { try units(sandbox, machine, guest) }
      try sandbox.succeed("poweroff", machine)
      try look("stopped")
      try sandbox.succeed("start", machine)
      // A boot of the host's is one to the machine as well, however often it starts.
      try matrix.check("journal -b", image) {
        let boot = try journal("-b", "-u", "known", "-o", "cat")
        try demand(boot.contains("a known line"), boot)
      }
      try matrix.check("journal, frozen", image) {
        let group = (try sandbox.guest(machine).state["cgroup"]?.stringValue ?? "") + "/payload"
        try write("1", to: "\(group)/cgroup.freeze")
        defer { try? write("0", to: "\(group)/cgroup.freeze") }
        let last = try sandbox.succeed("journal", machine, "-n", "1", "-o", "cat", deadline: 10)
        try demand(last != "", "nothing")
      }
      try sandbox.succeed("terminate", machine)
    }
  }

  private func units(_ sandbox: Sandbox, _ machine: String, _ guest: Guest) throws {
    func list(_ arguments: String...) throws -> [String] {
      let units = try sandbox.hengectl(["units", machine, "--json"] + arguments).json().arrayValue ?? []
      return units.compactMap { $0["name"]?.stringValue }
    }
    let failing =
      "systemctl reset-failed; systemd-run --quiet --unit=broken false; sleep 0.3; systemctl is-failed broken"
    try demand(try guest.shell(failing).text == "failed", "no failed unit")
    try demand(try list("--failed") == ["broken.service"], "--failed")
    try demand(try list("--state", "failed") == ["broken.service"], "--state failed")
    // What its own systemctl lists, in the same order.
    for (ours, theirs) in [
      (["--state", "running,listening"], "--state=running,listening"),
      (["--state", "running", "--state", "listening", "--type", "socket"], "--state=running,listening --type=socket"),
      (["--type=service,socket"], "--type=service,socket"), (["dbus*"], "'dbus*'"),
    ] {
      let line = "systemctl list-units --all --plain --no-legend --no-pager \(theirs) | cut -d' ' -f1 | LC_ALL=C sort"
      let wanted = try guest.shell(line).text.split(separator: "\n").map(String.init)
      let units = try sandbox.hengectl(["units", machine, "--json"] + ours).json().arrayValue ?? []
      let found = units.compactMap { $0["name"]?.stringValue }
      try demand(found == wanted && !found.isEmpty, "\(ours): \(found), but \(wanted)")
    }
    try guest.succeed("systemctl", "reset-failed")
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whoFollowsHasNoRightsAndSeesNothingElse() throws {
    try withSandbox("follow") { sandbox in
      let (machine, guest) = try boot(sandbox, "trixie")
      let follower = try sandbox.live("journal", machine, "-f", "-n", "0")
      let other = try sandbox.live("journal", machine, "-fn0")
      // It is there once it has opened the journal.
      let viewers = { Host.processes.filter { isReader($0, of: guest) } }
      let limit = now() + 30_000_000_000
      while viewers().count < 2, now() < limit { pause(milliseconds: 20) }
      let viewer = try #require(viewers().first)
      // It has no right at all, and sees nothing of the host.
      for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        #expect(Host.status(viewer, set) == "0000000000000000", "\(set)")
      }
      #expect(Host.status(viewer, "NoNewPrivs") == "1")
      #expect(names(in: "/proc/\(viewer)/root").sorted() != names(in: "/").sorted())
      #expect(names(in: "/proc/\(viewer)/root/etc") == ["localtime"] || names(in: "/proc/\(viewer)/root/etc") == [])
      #expect(Host.namespace("\(viewer)", "net") != Host.namespace("self", "net"))
      #expect(Host.namespace("\(viewer)", "net") != Host.namespace("\(guest.leader)", "net"))
      let mounts = read("/proc/\(viewer)/mountinfo") ?? ""
      for line in mounts.split(separator: "\n") where !line.contains(" /proc ") {
        #expect(line.split(separator: " ")[5].hasPrefix("ro"), "\(line)")
      }

      // Who has not yet come to the end of the journal takes a line for one of those before it.
      for program in [follower, other] {
        try until("it follows") {
          try guest.succeed("logger", "-t", "later", "a later line")
          return (try? program.waitFor("a later line", deadline: 1)) != nil
        }
      }
      // Whoever is killed takes its reader along.
      kill(other.id, SIGKILL)
      while viewers().count > 1, now() < limit { pause(milliseconds: 20) }
      #expect(viewers().count == 1)
      // And with the machine it ends.
      try sandbox.succeed("poweroff", machine)
      #expect(try follower.wait() == 0)
      #expect(follower.text.contains("has stopped"), "\(follower.text)")
    }
  }

  /// Whether it is a journalctl with the machine's ids that is not one of the machine's processes.
  private func isReader(_ process: Int32, of guest: Guest) -> Bool {
    guard Host.status(process, "Name") == "journalctl", Host.status(process, "State")?.hasPrefix("Z") == false else {
      return false
    }
    let ids = (Host.status(process, "Uid") ?? "").split(whereSeparator: { $0 == "\t" || $0 == " " })
    return ids.first.flatMap { UInt32($0) }.map(guest.uids.contains) ?? false
      && Host.namespace("\(process)", "pid") != Host.namespace("\(guest.leader)", "pid")
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aReaderThatHasEnoughEndsIt() throws {
    try withSandbox("head") { sandbox in
      let (machine, guest) = try boot(sandbox, "trixie")
      try guest.succeed(
        "sh", "-c", "seq 200000 | sed 's/$/ a line of some length to fill the journal with/' | systemd-cat",
        deadline: 60)
      let line = "\"$0\" journal \"$1\" -o cat | head -n 1"
      let outcome = try run(
        ["sh", "-c", line, "\(Checkout.programs)/hengectl", machine], environment: sandbox.environment, deadline: 20)
      #expect(outcome.output.split(separator: "\n").count == 1 && outcome.errors == "", "\(outcome)")
      expectRefusal(try sandbox.hengectl("journal", sandbox.name("none")), code: 4, "none of this name")
      expectRefusal(try sandbox.hengectl("journal", machine, "--nonsense"), code: 1)
    }
  }

  // MARK: Hostile guests

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aJournalFolderLeadsNowhereElse() throws {
    try withSandbox("swap") { sandbox in
      try sandbox.makeWork()
      let (machine, guest) = try boot(sandbox, "trixie")
      let id = try guest.succeed("cat", "/etc/machine-id")
      // On the host lies a journal at the path that the links say.
      let decoy = "\(sandbox.decoy)/journal"
      try runWell(["cp", "-a", "\(sandbox.state)/machines/\(machine)/upper/var/log/journal", decoy])
      let watch = Descriptor(adopting: try check(inotify_init1(Int32(O_NONBLOCK)), "watch"))
      for folder in [sandbox.decoy, decoy, "\(decoy)/\(id)"] {
        let mask = UInt32(IN_OPEN | IN_ACCESS | IN_MODIFY | IN_CREATE)
        try check(inotify_add_watch(watch.raw, folder, mask), "watch", folder)
      }
      for isRunning in [true, false] {
        for trap in [
          "ln -s \(decoy) $f", "ln -s ../../../../../../../../..\(decoy) $f", "mkfifo $f", "mknod $f c 1 5", "touch $f",
          "ln -s /proc/1/root/var/log/journal $f", "ln -s /proc/self/fd/3 $f", "ln -s $f $f",
          "mkdir $f && ln -s \(decoy)/\(id) $f/\(id)",
          "mkdir -p $f/\(id) && ln -s \(decoy)/\(id)/system.journal $f/\(id)/system.journal",
          "mkdir -p $f/\(id)/system.journal && mkfifo $f/\(id)/user-1000.journal",
          "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => shift, Listen => 1)' $f",
        ] {
          let line = "for f in /var/log/journal /run/log/journal; do rm -rf $f; \(trap); done 2>/dev/null; true"
          if isRunning {
            _ = try guest.shell(line)
          } else {
            let upper = "\(sandbox.state)/machines/\(machine)/upper"
            let outside = "f=\(upper)/var/log/journal; rm -rf $f; \(trap)"
            _ = try run(["sh", "-c", outside])
          }
          let outcome = try sandbox.hengectl("journal", machine, "-n", "5", deadline: 20)
          #expect(!outcome.isTimedOut && outcome.seconds < 12, "\(trap): \(outcome)")
          #expect(!outcome.output.contains("systemd["), "\(trap): \(outcome)")
          expectHarmless(outcome)
        }
        if isRunning { try sandbox.succeed("poweroff", machine) }
      }
      var events = [UInt8](repeating: 0, count: 4096)
      // The copy that was made before, and nothing since.
      #expect(Glibc.read(watch.raw, &events, events.count) <= 0, "somebody looked at the host's decoy")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatALogSaysIsHarmlessOnATerminal() throws {
    try withSandbox("escape") { sandbox in
      let (machine, guest) = try boot(sandbox, "trixie")
      let line = #"printf '\033[31mred\033]0;owned\007 \342\200\256 \302\233 \377 end\n' | systemd-cat -t evil"#
      #expect(try guest.shell(line).succeeded)
      _ = try guest.shell("echo ../../../../etc > /etc/machine-id; journalctl --sync")
      for mode in ["cat", "short", "verbose", "json", "json-pretty"] {
        for arguments in [["--no-pager"], []] {
          let shown = try LiveProgram(
            ["\(Checkout.programs)/hengectl", "journal", machine, "-a", "-t", "evil", "-o", mode] + arguments,
            environment: sandbox.environment + ["PAGER=cat"], onTerminal: true)
          #expect(try shown.wait() == 0)
          #expect(shown.text.contains(mode.hasPrefix("json") ? "MESSAGE" : "end"), "\(mode): \(shown.text)")
          for scalar in shown.text.unicodeScalars where ![9, 10, 13].contains(scalar.value) {
            let isControl =
              scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || (0x202a...0x202e).contains(scalar.value)
            #expect(!isControl, "\(mode): \(scalar.value)")
          }
        }
      }
      let json = try sandbox.succeed("journal", machine, "-t", "evil", "-o", "json")
      _ = try JSON(parsing: Array(json.utf8))
      // A pipe gets the bytes as they are.
      #expect(try sandbox.hengectl("journal", machine, "-t", "evil", "-o", "cat").output.contains("\u{1b}[31mred"))
      // Files that are none, and large ones.
      _ = try guest.shell(
        "d=$(echo /var/log/journal/*); head -c 100M /dev/urandom > $d/junk.journal; truncate -s 1T $d/large.journal;"
          + " cp $d/system.journal \"$d/$(printf 'x\\033[31m.journal')\"; dd if=/dev/urandom of=$d/system@a.journal"
          + " bs=1k count=64; head -c 300k $d/system.journal > $d/cut.journal; true", deadline: 60)
      let outcome = try sandbox.hengectl("journal", machine, "-t", "evil", "-o", "json", deadline: 30)
      #expect(!outcome.isTimedOut && outcome.output.contains("MESSAGE"), "\(outcome)")
      expectHarmless(outcome)
    }
  }

  /// An ordinary user's view has the user's ids in place of the host's root.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func anOrdinaryUserReadsItAsWell() throws {
    try withUsers("users-journal", ids: [131072]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("run", "-s", "Parameters=systemd.show_status=yes", "trixie", "m")
      try say(try user.guest("m"))
      for isRunning in [true, false] {
        let known = try user.hengectl("journal", "m", "-u", "known", "-o", "cat")
        #expect(known.succeeded && known.output.contains("a known line\na bad line"), "\(isRunning): \(known)")
        let console = try user.hengectl("console", "--history", "m")
        #expect(console.output.contains("Basic System"), "\(console)")
        if isRunning { try user.succeed("poweroff", "m") }
      }
      try user.succeed("remove", "m")
    }
  }

  // MARK: LinkJournal=

  /// A host with a journal on disk, which this one need not have.
  private func withHostsJournal(_ body: () throws -> Void) throws {
    let isOurs = mkdir("/var/log/journal", 0o755) == 0
    defer { if isOurs { rmdir("/var/log/journal") } }
    try body()
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func theHostKeepsTheJournalWhereAskedTo() throws {
    try withSandbox("link") { sandbox in
      try withHostsJournal {
        let (machine, guest) = try boot(sandbox, "trixie", "LinkJournal=host")
        let id = try guest.succeed("cat", "/etc/machine-id")
        let folder = "/var/log/journal/\(id)"
        defer { _ = try? run(["rm", "-rf", folder]) }
        try say(guest)
        var status = stat()
        #expect(lstat(folder, &status) == 0 && status.st_uid == guest.uidBase && status.st_mode & 0o7777 == 0o2755)
        #expect(lstat("\(folder)/system.journal", &status) == 0 && status.st_uid == guest.uidBase)
        // The host's own journalctl finds it by the machine's id.
        #expect(try runWell(["journalctl", "-q", "-m", "-o", "cat", "_MACHINE_ID=\(id)"]).contains("a known line"))
        #expect(try guest.shell("echo '#!/bin/sh' > \(folder)/x; chmod 755 \(folder)/x; \(folder)/x").code != 0)
        #expect(try sandbox.succeed("journal", machine, "-u", "known", "-o", "cat").contains("a known line"))
        try sandbox.succeed("poweroff", machine)
        #expect(try sandbox.succeed("journal", machine, "-u", "known", "-o", "cat").contains("a known line"))
        // It stays, and is the machine's again.
        try sandbox.succeed("start", machine)
        #expect(try sandbox.succeed("journal", machine, "-u", "known", "-o", "cat").contains("a known line"))
        try sandbox.succeed("terminate", machine)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func nobodyElsesJournalIsLinked() throws {
    try withSandbox("unlinked") { sandbox in
      try withHostsJournal {
        let (machine, guest) = try boot(sandbox, "trixie")
        let id = try guest.succeed("cat", "/etc/machine-id")
        let folder = "/var/log/journal/\(id)"
        defer { _ = try? run(["rm", "-rf", folder]) }
        #expect(access(folder, F_OK) != 0, "auto makes no folder")
        try sandbox.succeed("poweroff", machine)
        // Somebody else's folder is not taken, and is left as it is.
        try check(mkdir(folder, 0o700), "make", folder)
        try check(chown(folder, 4321, 4321), "give away", folder)
        // The bits of a set-id folder are its children's.
        try check(chmod(folder, 0o700), "close", folder)
        try sandbox.succeed("start", machine)
        #expect(names(in: folder) == [])
        try sandbox.succeed("poweroff", machine)
        expectRefusal(
          try sandbox.hengectl("start", "-s", "LinkJournal=host", machine), code: 1, "not this machine's", folder)
        var status = stat()
        #expect(lstat(folder, &status) == 0 && status.st_uid == 4321 && status.st_mode & 0o7777 == 0o700)
        // An empty one that the operator made is a wish.
        try check(chown(folder, 0, 0), "take back", folder)
        try sandbox.succeed("start", machine)
        #expect(names(in: folder).contains("system.journal"))
        try sandbox.succeed("poweroff", machine)
        expectRefusal(try sandbox.hengectl("start", "-s", "LinkJournal=guest", machine), code: 2, "hengectl journal")
        try sandbox.succeed("start", "-s", "LinkJournal=no", machine)
        #expect(try !sandbox.guest(machine).succeed("cat", "/proc/self/mountinfo").contains(folder))
        try sandbox.succeed("terminate", machine)
        // The host's own id is a claim to the host's own journal.
        let own = trimmed(read("/etc/machine-id") ?? "")
        guard own.utf8.count == 32 else { return }
        try write("\(own)\n", to: "\(sandbox.state)/machines/\(machine)/upper/etc/machine-id")
        let before = try runWell(["sh", "-c", "ls -lan /var/log/journal"])
        expectRefusal(
          try sandbox.hengectl("start", "-s", "LinkJournal=host", machine), code: 1, "host's own machine-id")
        try sandbox.succeed("start", machine)
        #expect(try !sandbox.guest(machine).succeed("cat", "/proc/self/mountinfo").contains("/var/log/journal"))
        #expect(try runWell(["sh", "-c", "ls -lan /var/log/journal"]) == before)
        try sandbox.succeed("terminate", machine)
      }
    }
  }
}
