import Glibc
import Linux
import Testing
import Varlink

/// Who a machine is when it gets another name, and who its clone is.
@Suite("Identity", .serialized)
struct IdentityTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aRenamedMachineIsTheSameOne() throws {
    try withSandbox("rename") { sandbox in
      try sandbox.image("trixie")
      let (old, new) = (sandbox.name("old"), sandbox.name("new"))
      try sandbox.succeed("create", "-s", "Environment=KEPT=yes", "trixie", old)
      try sandbox.succeed("start", old)
      let before = try sandbox.guest(old)
      let identity = try before.succeed("cat", "/etc/machine-id")
      try before.succeed("touch", "/root/kept")
      expectRefusal(try sandbox.hengectl("rename", old, new), code: 1, "running", "hengectl poweroff \(old)")
      try sandbox.succeed("poweroff", old)
      try sandbox.succeed("rename", old, new)
      #expect(try sandbox.hengectl("status", old).code == 4)
      try sandbox.succeed("start", new)
      let after = try sandbox.guest(new)
      #expect(after.uidBase == before.uidBase && after.state["uuid"] == before.state["uuid"])
      #expect(try after.succeed("cat", "/etc/machine-id") == identity)
      #expect(try after.run("test", "-e", "/root/kept").code == 0)
      #expect(read("/proc/\(after.leader)/environ")?.contains("KEPT=yes") ?? false)
      #expect(Host.cgroup(after.leader)?.contains("/henge-\(new)-") ?? false)
      try sandbox.succeed("terminate", new)
      try sandbox.succeed("create", "trixie", old)
      expectRefusal(try sandbox.hengectl("rename", new, old), code: 1, "there is a machine '\(old)' already")
      expectRefusal(try sandbox.hengectl("rename", sandbox.name("none"), old), code: 4)
      #expect(try sandbox.hengectl("rename", new, "../x").code == 2)
      for name in [old, new] { try sandbox.succeed("remove", name) }
      #expect(names(in: sandbox.configuration) == [] && names(in: "\(sandbox.state)/machines") == [])
    }
  }

  /// Whenever the command is killed, the machine is there afterwards, whole, under one of the two names.
  @Test(.needsRoot, .needsPrograms)
  func aRenameMayBeKilledAtAnyMoment() throws {
    try withSandbox("cut") { sandbox in
      let tree = "\(sandbox.folder)/tree"
      try runWell(["mkdir", "-p", "\(tree)/usr", "\(tree)/etc"])
      var name = sandbox.name("a")
      var other = sandbox.name("b")
      try sandbox.succeed("create", "--in-place", tree, name, "-s", "Hostname=kept")
      let uuid = try sandbox.status(name, "uuid")
      var ends = (old: 0, new: 0)
      for round in 0..<40 {
        let program = try sandbox.start(["rename", name, other])
        pause(milliseconds: Double(round) * 0.25)
        program.signal(SIGKILL)
        _ = try program.wait(deadline: 10)
        let list = try sandbox.hengectl("list", "--json", deadline: 5)
        let machines = try list.json()
        guard case .array(let found) = machines, found.count == 1, let now = found[0]["name"]?.stringValue else {
          throw Complaint("round \(round): \(list)")
        }
        #expect(found[0]["error"] == nil && list.seconds < 5, "round \(round): \(list)")
        #expect(try sandbox.status(now, "uuid") == uuid)
        #expect(try sandbox.succeed("show", "--spec", now).contains("Hostname=kept"))
        #expect(
          names(in: "\(sandbox.state)/machines") == [now] && names(in: sandbox.configuration) == ["\(now).machine"])
        let ranges = "\(sandbox.state)/uid-ranges"
        let links = names(in: ranges).filter { !$0.hasPrefix(".") }
        #expect(links.count == 1 && Descriptor.currentDirectory.linkTarget("\(ranges)/\(links[0])") == now)
        if now == other {
          ends.new += 1
          swap(&name, &other)
        } else {
          ends.old += 1
        }
      }
      print("a rename that was killed: \(ends.old) times with the old name, \(ends.new) times with the new one")
      #expect(ends.old > 0 && ends.new > 0)
    }
  }

  /// The clone of a machine whose image has an identity is somebody else all the same.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["map", "chown"])
  func aCloneForgetsWhatItsImageIs(_ ownership: String) throws {
    try withSandbox("clone-\(ownership)") { sandbox in
      let tree = "\(sandbox.folder)/tree"
      try check(mkdir(tree, 0o755), "make", tree)
      try runWell(["tar", "-C", tree, "--numeric-owner", "-xpf", try Checkout.archive("trixie"), "--exclude=./dev/*"])
      try write("0123456789abcdef0123456789abcdef\n", to: "\(tree)/etc/machine-id", mode: 0o444)
      mkdir("\(tree)/etc/ssh", 0o755)
      for key in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "moduli"] {
        try write("old\n", to: "\(tree)/etc/ssh/\(key)", mode: 0o600)
      }
      try sandbox.succeed("import-fs", tree, "known")
      let (first, second) = (sandbox.name("a"), sandbox.name("b"))
      try sandbox.succeed("create", "-s", "PrivateUsersOwnership=\(ownership)", "known", first)
      // Nothing makes new keys: then the old ones are not taken away.
      let refused = try sandbox.hengectl("clone", "--new-host-keys", first, second)
      expectRefusal(refused, code: 1, "nothing in it makes new ssh host keys")
      #expect(try sandbox.hengectl("status", second).code == 4)

      try sandbox.succeed("start", first)
      let one = try sandbox.guest(first)
      #expect(try one.succeed("cat", "/etc/machine-id") == "0123456789abcdef0123456789abcdef")
      try one.succeed(
        "sh", "-ec",
        """
        printf '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c "test -e /etc/ssh/ssh_host_rsa_key || echo new > \
        /etc/ssh/ssh_host_rsa_key"\\n[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/sshd-keygen.service
        systemctl enable -q sshd-keygen.service
        echo mine > /etc/ssh/ssh_host_ed25519_key; echo data > /srv/data
        """)
      try sandbox.succeed("poweroff", first)
      try sandbox.succeed("clone", "--new-host-keys", first, second)
      for name in [first, second] { try sandbox.succeed("start", name) }
      let other = try sandbox.guest(second)
      let uuid = other.state["uuid"]?.stringValue?.split(separator: "-").joined() ?? "none"
      #expect(try other.succeed("cat", "/etc/machine-id") == uuid, "\(ownership)")
      #expect(try other.succeed("hostnamectl", "--json=short").contains(uuid))
      #expect(try other.succeed("cat", "/srv/data") == "data")
      #expect(try other.shell("cd /etc/ssh; echo ssh_host_* moduli").text == "ssh_host_rsa_key moduli")
      #expect(try other.succeed("cat", "/etc/ssh/ssh_host_rsa_key") == "new")
      #expect(try other.succeed("stat", "-c", "%u:%g %a", "/etc", "/etc/ssh") == "0:0 755\n0:0 755")
      let same = try sandbox.guest(first)
      #expect(try same.succeed("cat", "/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ed25519_key") == "old\nmine")
      #expect(try same.succeed("cat", "/etc/machine-id") == "0123456789abcdef0123456789abcdef")
      for name in [first, second] { try sandbox.succeed("terminate", name) }
      #expect(read("\(sandbox.state)/images/known/layer-0/etc/ssh/ssh_host_rsa_key") == "old\n")
    }
  }

  /// What the machine made of its own files leads nowhere on the host.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aCloneFollowsNoLinkOfItsSource() throws {
    try withSandbox("clone-links") { sandbox in
      try sandbox.image("trixie")
      try sandbox.makeWork()
      let upper = { (name: String) in "\(sandbox.state)/machines/\(name)/upper" }
      for (number, trick) in [
        "ln -sf '\(sandbox.decoy)/victim' etc/machine-id", "rm -rf etc; ln -s '\(sandbox.decoy)' etc",
        "rm -f etc/machine-id; mkfifo etc/machine-id", "rm -f etc/machine-id; mkdir etc/machine-id",
      ].enumerated() {
        let (source, clone) = (sandbox.name("s\(number)"), sandbox.name("c\(number)"))
        try sandbox.succeed("create", "trixie", source)
        try runWell([
          "sh", "-ec", "cd \"$0\"; mkdir -p etc; cp '\(sandbox.decoy)/victim' etc/x; \(trick)", upper(source),
        ])
        try write("the host's own\n", to: "\(sandbox.decoy)/machine-id")
        let outcome = try sandbox.hengectl("clone", source, clone, deadline: 20)
        expectRefusal(outcome, code: 1, source)
        #expect(try sandbox.hengectl("status", clone).code == 4, "\(trick)")
        #expect(read("\(sandbox.decoy)/victim") == "the host's own\n", "\(trick)")
        #expect(read("\(sandbox.decoy)/machine-id") == "the host's own\n", "\(trick)")
      }
      #expect(names(in: "\(sandbox.state)/machines").count == 4)
    }
  }
}
