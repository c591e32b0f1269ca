import Glibc
import Linux
import Testing

/// What a spec asks for, as the machine finds it.
@Suite("A spec as seen from inside")
struct SpecInsideTests {
  /// Boots trixie with settings, hands it over, and ends it.
  private func boot(
    _ sandbox: Sandbox, _ name: String, _ settings: [String], _ look: (Guest) throws -> Void
  ) throws {
    try sandbox.image("trixie")
    let machine = sandbox.name(name)
    let outcome = try sandbox.hengectl(["create", "trixie", machine] + settings.flatMap { ["-s", $0] })
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    try sandbox.succeed("start", machine)
    try look(try sandbox.guest(machine))
    try sandbox.succeed("poweroff", machine)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func credentialsAreReadableAndNothingElse() throws {
    try withSandbox("credentials") { sandbox in
      let file = "\(sandbox.folder)/secret"
      try write("from a file\n", to: file, mode: 0o600)
      try boot(sandbox, "cred", ["SetCredential=one:written down", "LoadCredential=two:\(file)"]) { guest in
        let folder = "/run/host/credentials"
        #expect(try guest.succeed("cat", "\(folder)/one") == "written down")
        #expect(try guest.succeed("cat", "\(folder)/two") == "from a file")
        #expect(try guest.succeed("stat", "-c", "%a %u", folder) == "500 0")
        #expect(try guest.run("sh", "-c", "echo x > \(folder)/one").code != 0)
        #expect(try guest.run("mount", "-o", "remount,bind,rw", folder).code != 0)
        let environment = try guest.succeed("cat", "/proc/1/environ").split(separator: "\0")
        #expect(environment.contains("CREDENTIALS_DIRECTORY=\(folder)"))
        #expect(environment.contains("container=henge"))
        // systemd itself takes them and hands them on.
        let unit = ["--pipe", "--wait", "--quiet", "-p", "LoadCredential=one", "--", "cat"]
        let path = "/run/credentials/henge-test.service/one"
        let outcome = try IntegrationTests.run(
          ["nsenter", "-t", "\(guest.leader)", "-a", "systemd-run", "--unit=henge-test.service"] + unit + [path])
        #expect(outcome.text == "written down", "\(outcome)")
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func bindMountsShowTheHostsFilesAsAsked() throws {
    try withSandbox("binds") { sandbox in
      let (open, closed) = ("\(sandbox.folder)/open", "\(sandbox.folder)/closed")
      for folder in [open, closed] {
        try check(mkdir(folder, 0o777), "make", folder)
        chmod(folder, 0o777)
        try write("the host's", to: "\(folder)/file")
      }
      let settings = [
        "Bind=\(open):/srv/open", "BindReadOnly=\(closed):/srv/closed",
        "TemporaryFileSystem=/srv/memory:size=1m,mode=0700",
      ]
      try boot(sandbox, "binds", settings) { guest in
        #expect(try guest.succeed("cat", "/srv/open/file") == "the host's")
        try guest.succeed("sh", "-c", "echo inside > /srv/open/new")
        #expect(read("\(open)/new") == "inside\n")
        var status = stat()
        #expect(lstat("\(open)/new", &status) == 0 && status.st_uid == guest.uidBase)

        #expect(try guest.succeed("cat", "/srv/closed/file") == "the host's")
        for attempt in [
          "touch /srv/closed/new", "mount -o remount,rw /srv/closed", "mount -o remount,bind,rw /srv/closed",
          "mkdir /tmp/again && mount --bind /srv/closed /tmp/again && mount -o remount,bind,rw /tmp/again",
          "umount /srv/closed && touch /srv/closed/new",
          "unshare -m sh -c 'mount -o remount,bind,rw /srv/closed && touch /srv/closed/new'",
          "unshare -Urm sh -c 'mount -o remount,bind,rw /srv/closed && touch /srv/closed/new'",
        ] {
          _ = try guest.shell(attempt)
          #expect(names(in: closed) == ["file"], "\(attempt)")
        }
        #expect(try guest.succeed("stat", "-f", "-c", "%T", "/srv/memory") == "tmpfs")
        #expect(try guest.succeed("stat", "-c", "%a", "/srv/memory") == "700")
        #expect(try guest.run("dd", "if=/dev/zero", "of=/srv/memory/big", "bs=1M", "count=2").code != 0)
      }
    }
  }

  @Test(
    .needsRoot, .needsPrograms, .needsImages,
    arguments: ["Volatile=yes", "Volatile=state", "Volatile=overlay", "Ephemeral=yes"])
  func whatIsThrownAwayIsGoneAfterTheNextStart(_ setting: String) throws {
    try withSandbox("volatile") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("v")
      try sandbox.succeed("create", "-s", setting, "trixie", name)
      try sandbox.succeed("start", name)
      var guest = try sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      // What of the tree may be written is what the word says; /var may be in all of them.
      try guest.succeed("sh", "-c", "echo gone > /var/note")
      let isUsrWritable = try guest.run("touch", "/usr/note").code == 0
      let isRootWritable = try guest.run("touch", "/root/note").code == 0
      #expect(isUsrWritable == (setting == "Volatile=overlay" || setting == "Ephemeral=yes"))
      #expect(isRootWritable == (setting != "Volatile=state"))
      try sandbox.succeed("poweroff", name)
      try sandbox.succeed("start", name)
      guest = try sandbox.guest(name)
      for path in ["/var/note", "/usr/note", "/root/note"] {
        #expect(try guest.run("test", "-e", path).code == 1, "\(path)")
      }
      try sandbox.succeed("terminate", name)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func deviceNodesOfAnImageAreDead() throws {
    try withSandbox("devices") { sandbox in
      try sandbox.image("trixie")
      for ownership in ["map", "chown"] {
        let tree = "\(sandbox.folder)/\(ownership)"
        try runWell(["cp", "-a", "\(sandbox.state)/images/trixie/layer-0", tree])
        // The harmless /dev/zero stands for the host's disk.
        try runWell(["mknod", "-m", "0666", "\(tree)/usr/zero", "c", "1", "5"])
        let name = sandbox.name("d-\(ownership)")
        try sandbox.succeed("create", "-s", "PrivateUsersOwnership=\(ownership)", "--in-place", tree, name)
        try sandbox.succeed("start", name)
        let guest = try sandbox.guest(name)
        #expect(try guest.succeed("stat", "-c", "%F", "/usr/zero") == "character special file")
        for attempt in [
          "true", "mount -o remount,bind,dev /", "mount --bind /usr /mnt; mount -o remount,bind,dev /mnt",
          "mount -t overlay -o lowerdir=/usr:/etc none /mnt",
        ] {
          let outcome = try guest.shell("\(attempt); cat /usr/zero /mnt/zero | head -c 1 | wc -c", deadline: 20)
          #expect(outcome.text.hasSuffix("0"), "\(ownership), \(attempt): \(outcome)")
        }
        try sandbox.succeed("terminate", name)
        try sandbox.succeed("remove", name)
        var status = stat()
        #expect(lstat("\(tree)/usr/bin/dpkg", &status) == 0 && status.st_uid == 0, "it came with these ids")
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func anEphemeralRunLeavesNoMachine() throws {
    try withSandbox("ephemeral") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("e")
      let before = sandbox.snapshot()
      try sandbox.succeed("run", "--ephemeral", "trixie", name)
      #expect(try sandbox.guest(name).succeed("systemctl", "is-system-running") == "running")
      try sandbox.succeed("poweroff", name)
      #expect(try sandbox.hengectl("status", name).code == 4)
      #expect(names(in: "\(sandbox.state)/machines").filter { !$0.hasPrefix(".") } == [])
      #expect(sandbox.difference(from: before).filter { $0 != "+ file \(sandbox.runtime)/machines" } == [])
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func hardeningHoldsAgainstTheMachinesRoot() throws {
    try withSandbox("hard") { sandbox in
      try boot(sandbox, "hard", []) { guest in
        let names = [16: "SYS_MODULE", 17: "SYS_RAWIO", 30: "AUDIT_CONTROL", 37: "AUDIT_READ"]
        let bounding = UInt64(Host.status(guest.leader, "CapBnd") ?? "", radix: 16) ?? .max
        for (bit, name) in names { #expect(bounding & 1 << bit == 0, "\(name)") }
        #expect(Host.status(guest.leader, "CapInh") == "0000000000000000")
        #expect(Host.status(guest.leader, "CapAmb") == "0000000000000000")
        // SYS_ADMIN, NET_ADMIN, MKNOD and AUDIT_WRITE are what a whole system needs.
        for bit in [21, 12, 27, 29] { #expect(bounding & 1 << bit != 0, "\(bit)") }

        for path in ["/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/kallsyms", "/proc/timer_list"] {
          let outcome = try guest.run("head", "-c", "1", path, deadline: 10)
          #expect(outcome.output.isEmpty && !outcome.isTimedOut, "\(outcome)")
        }
        #expect(try guest.shell("echo h > /proc/sysrq-trigger").code != 0)
        #expect(try guest.run("dmesg").code != 0 || guest.run("sh", "-c", "dmesg | head -1").text.isEmpty)
        #expect(try guest.shell("ls -A /sys/firmware | wc -l").text == "0")
        for path in ["/sys/power/state", "/sys/kernel/uevent_helper", "/proc/sys/vm/drop_caches"] {
          #expect(try guest.shell("test -e \(path) && echo 1 > \(path)").code != 0, "\(path)")
        }

        // No device can be made, and none that is there can be used, whatever is remounted.
        for attempt in [
          "mknod /root/disk b 254 0", "mknod /dev/disk b 254 0", "mount -o remount,dev / && mknod /root/disk2 b 254 0",
          "mount -t tmpfs none /mnt && mknod /mnt/disk b 254 0 && head -c 1 /mnt/disk",
        ] { #expect(try guest.shell(attempt).code != 0, "\(attempt)") }
        for place in ["/run", "/dev/shm", "/run/host"] {
          _ = try guest.run("mount", "-o", "remount,bind,dev,suid,exec", place)
          let options = try guest.succeed("findmnt", "-n", "-o", "VFS-OPTIONS", place)
          #expect(options.contains("nodev") && options.contains("nosuid"), "\(place): \(options)")
        }
        _ = try guest.run("mount", "-o", "remount,bind,rw", "/run/host")
        #expect(try guest.succeed("findmnt", "-n", "-o", "VFS-OPTIONS", "/run/host").hasPrefix("ro"))
        // What udev and its like take as a sign; the kernel's own rights are what protects the host there.
        #expect(try guest.succeed("findmnt", "-n", "-o", "VFS-OPTIONS", "/sys").hasPrefix("ro"))
        // Its own control group's limits are not its to lift.
        #expect(try guest.shell("echo max > /sys/fs/cgroup/../cgroup.max.depth").code != 0)
      }
    }
  }
}
