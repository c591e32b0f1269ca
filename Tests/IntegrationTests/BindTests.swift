import Glibc
import Linux
import Testing
import Varlink

/// Binds that come and go while the machine runs, as the host and the machine see them.
@Suite("Bind and unbind", .serialized)
struct BindTests {
  private func owner(_ path: String) -> [UInt32] {
    var status = stat()
    return lstat(path, &status) == 0 ? [status.st_uid, status.st_gid] : []
  }

  /// A running machine, and a folder of the host's with a file of root's.
  private func withMachine(
    _ image: String, _ body: (_ sandbox: Sandbox, _ machine: String, _ guest: Guest, _ folder: String) throws -> Void
  ) throws {
    try withSandbox("bind") { sandbox in
      try sandbox.image(image)
      let machine = sandbox.name("bind")
      try sandbox.succeed("create", image, machine)
      try sandbox.succeed("start", machine)
      let folder = "\(sandbox.folder)/shared"
      try check(mkdir(folder, 0o755), "make", folder)
      try write("the host's\n", to: "\(folder)/file", mode: 0o640)
      try body(sandbox, machine, try sandbox.guest(machine), folder)
      try sandbox.succeed("terminate", machine)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bullseye", "bookworm", "trixie", "forky"])
  func idsAreTranslatedBothWays(image: String) throws {
    try withMachine(image) { sandbox, machine, guest, folder in
      let before = read("/proc/self/mountinfo")
      let missing = try sandbox.hengectl("bind", machine, folder, "/srv/a/b")
      #expect(missing.code == 1 && missing.errors.contains("'--mkdir' makes it"), "\(missing)")
      #expect(try guest.run("test", "-e", "/srv/a").code == 1, "a refused bind left something")

      try sandbox.succeed("bind", "--mkdir", machine, folder, "/srv/a/b")
      #expect(try guest.succeed("stat", "-c", "%u:%g %a", "/srv/a/b/file") == "0:0 640")
      try guest.shell("echo x > /srv/a/b/root && install -o 1000 -g 1001 /dev/null /srv/a/b/user")
      #expect(owner("\(folder)/root") == [0, 0], "\(owner("\(folder)/root"))")
      #expect(owner("\(folder)/user") == [1000, 1001])
      let bound = try sandbox.hengectl("status", "--json", machine).json()["binds"]?.arrayValue ?? []
      #expect(bound.first?["path"]?.stringValue == "/srv/a/b" && bound.first?["source"]?.stringValue == folder)
      // Services see it as well, not only who comes from outside.
      let table = try guest.succeed("cat", "/proc/1/mountinfo")
      #expect(table.contains(" /srv/a/b rw,nodev"), "\(table)")

      try sandbox.succeed("bind", "--mkdir", machine, "\(folder)/file", "/srv/file")
      #expect(try guest.succeed("cat", "/srv/file") == "the host's")
      try sandbox.succeed("bind", "--mkdir", "--no-idmap", machine, folder, "/srv/plain")
      #expect(try guest.succeed("stat", "-c", "%u", "/srv/plain/file") == "65534")
      for path in ["/srv/plain", "/srv/file", "/srv/a/b"] { try sandbox.succeed("unbind", machine, path) }
      #expect(try guest.succeed("ls", "/srv/a/b", "/srv/plain") == "/srv/a/b:\n\n/srv/plain:")
      #expect(read("/proc/self/mountinfo") == before, "the host's own mounts changed")
      print("bind: \(image): root's file is root's, written as 0 is the host's 0, as 1000 the host's 1000")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatIsReadOnlyStaysSo() throws {
    try withMachine("trixie") { sandbox, machine, guest, folder in
      try sandbox.succeed("bind", "--mkdir", "--read-only", machine, folder, "/srv/ro")
      for attempt in [
        "touch /srv/ro/new", "mount -o remount,rw /srv/ro", "mount -o remount,bind,rw /srv/ro",
        "mkdir -p /tmp/again && mount --bind /srv/ro /tmp/again && mount -o remount,bind,rw /tmp/again",
        "unshare --mount mount -o remount,bind,rw /srv/ro", "mount -o remount,bind,ro,dev /srv/ro",
      ] { #expect(try guest.shell(attempt).code != 0, "\(attempt)") }
      #expect(names(in: folder) == ["file"])

      // In use: nothing is torn from under a program, unless that is asked for.
      let user = try RunningProgram(
        ["nsenter", "-t", "\(guest.leader)", "-a", "sh", "-c", "cd /srv/ro && exec sleep 60"])
      defer { user.signal(SIGKILL) }
      let end = now() + 10_000_000_000
      // nsenter forks into the pid namespace; its child is the one to look at.
      var isInside: Bool {
        let children = read("/proc/\(user.id)/task/\(user.id)/children") ?? ""
        return Descriptor.currentDirectory.linkTarget("/proc/\(trimmed(children))/cwd")?.hasSuffix("/ro") ?? false
      }
      while !isInside, now() < end { pause(milliseconds: 5) }
      let busy = try sandbox.hengectl("unbind", machine, "/srv/ro")
      #expect(busy.code == 1 && busy.errors.contains("it is in use; '--lazy'"), "\(busy)")
      try sandbox.succeed("unbind", "--lazy", machine, "/srv/ro")
      #expect(try guest.succeed("ls", "-A", "/srv/ro") == "")

      // It stops itself when its child is stopped, as systemd does to all before it kills them, and then reaps no more.
      user.signal(SIGKILL)

      // Over a reboot nothing of it comes back, and nothing is told of it.
      try sandbox.succeed("bind", machine, folder, "/srv/ro")
      try sandbox.succeed("reboot", machine)
      #expect(try sandbox.guest(machine).succeed("ls", "-A", "/srv/ro") == "")
      #expect(try sandbox.hengectl("status", "--json", machine).json()["binds"]?.arrayValue?.isEmpty == true)
    }
  }

  /// On a host with systemd all mounts are shared: what comes below one shows in its copies as well.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatTheHostMountsLaterStaysWithTheHost() throws {
    try withMachine("trixie") { sandbox, machine, guest, folder in
      let host = try PrivateMounts(
        """
        mount --make-rprivate /; mount -t tmpfs first '\(folder)'; mount --make-shared '\(folder)'
        mkdir '\(folder)/sub'; touch '\(folder)/sub/first'
        """, sandbox)
      let outcome = try host.hengectl("bind", "--mkdir", "--read-only", machine, folder, "/srv/late")
      #expect(outcome.succeeded, "\(outcome)")
      #expect(try guest.succeed("ls", "/srv/late/sub") == "first")
      _ = try host.shell("mount -t tmpfs -o mode=0777 second '\(folder)/sub'; touch '\(folder)/sub/second'")
      #expect(try guest.succeed("ls", "/srv/late/sub") == "first")
      #expect(try guest.shell("touch /srv/late/sub/mine").code != 0)
      #expect(try host.shell("ls '\(folder)/sub'") == "second")
      try sandbox.succeed("unbind", machine, "/srv/late")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aMachineLeadsABindNowhereButIntoItself() throws {
    try withMachine("trixie") { sandbox, machine, guest, folder in
      let decoy = "\(sandbox.folder)/decoy"
      try check(mkdir(decoy, 0o777), "make", decoy)
      let before = (read("/proc/self/mountinfo"), Host.tree(decoy))
      try guest.shell(
        """
        mkdir -p /srv/here; ln -s \(decoy) /srv/link; ln -s /proc/1/root /srv/magic; mkfifo /srv/fifo
        ln -s /srv/loop /srv/loop; ln -s ../../../../.. /srv/up
        """)
      // Seen from inside, all of these lead to places of the machine's own, or nowhere.
      for path in [
        "/srv/link", "/srv/link/new", "/srv/magic\(decoy)", "/srv/fifo/x", "/srv/loop/x", "/srv/up\(decoy)/x",
        "/proc/1/cwd/x", "/proc/self/root\(decoy)",
      ] {
        let outcome = try sandbox.hengectl("bind", "--mkdir", machine, folder, path, deadline: 20)
        if outcome.code == 0 { try sandbox.succeed("unbind", machine, path) }
        #expect(!outcome.isTimedOut && outcome.errorLines.count == (outcome.code == 0 ? 0 : 1), "\(path): \(outcome)")
      }
      #expect(read("/proc/self/mountinfo") == before.0)
      #expect(Host.tree(decoy) == before.1)

      // A machine whose process 1 does not run is bound into all the same.
      kill(guest.leader, SIGSTOP)
      defer { kill(guest.leader, SIGCONT) }
      try sandbox.succeed("bind", machine, folder, "/srv/here", deadline: 20)
      #expect(try guest.succeed("cat", "/srv/here/file") == "the host's")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatCannotBeBoundIsRefusedInOneLine() throws {
    try withMachine("trixie") { sandbox, machine, guest, folder in
      let wrong: [(arguments: [String], words: String, code: Int32)] = [
        ([machine, "\(folder)/none", "/srv"], "no such file", 1),
        ([machine, folder, "srv"], "must begin with", 2),
        ([machine, folder, "/srv/../etc"], "without", 2),
        ([machine, folder, "/"], "root stays", 2),
        ([machine, folder, "/etc/passwd"], "not a folder", 1),
        ([machine, "\(folder)/file", "/srv"], "it is a folder", 1),
        ([machine, "/proc/sys", "/srv"], "cannot map ids", 5),
        ([sandbox.name("none"), folder, "/srv"], "there is none", 4),
      ]
      for (arguments, words, code) in wrong {
        let outcome = try sandbox.hengectl(["bind"] + arguments)
        #expect(outcome.code == code && outcome.errors.contains(words), "\(outcome)")
        #expect(outcome.errorLines.count == 1, "\(outcome)")
      }
      #expect(try sandbox.hengectl("unbind", machine, "/srv").code == 1)
      #expect(try sandbox.hengectl("unbind", machine, "/proc").code == 1, "only what was bound is taken away")
      let table = try guest.succeed("cat", "/proc/1/mountinfo")
      #expect(table.contains(" /proc rw") && !table.contains(" /srv"), "\(table)")
    }
  }
}
