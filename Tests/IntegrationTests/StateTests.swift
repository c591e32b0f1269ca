import Glibc
import Linux
import Testing
import Varlink

/// What hengectl says of machines that are not just well, and who a machine is over its life.
@Suite("States of a machine")
struct StateTests {
  /// A guest's tree as a folder of its own, for the operator to change and to use in place.
  private func unpack(_ image: String, in sandbox: Sandbox) throws -> String {
    let tree = "\(sandbox.folder)/tree"
    try check(mkdir(tree, 0o755), "make", tree)
    try runWell(["tar", "-C", tree, "--numeric-owner", "-xpf", try Checkout.archive(image), "--exclude=./dev/*"])
    return tree
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aFailedUnitIsNamedWithItsLastWords() throws {
    try withSandbox("degraded") { sandbox in
      let tree = try unpack("trixie", in: sandbox)
      try write(
        """
        [Unit]
        Description=A unit that fails
        [Service]
        Type=oneshot
        ExecStart=/bin/sh -c 'echo these are the last words; exit 7'

        """, to: "\(tree)/etc/systemd/system/broken.service")
      let wants = "\(tree)/etc/systemd/system/multi-user.target.wants"
      mkdir(wants, 0o755)
      try check(symlink("../broken.service", "\(wants)/broken.service"), "link", wants)
      let name = sandbox.name("sick")
      try sandbox.succeed("create", "--in-place", tree, name)

      let outcome = try sandbox.hengectl("start", name)
      #expect(outcome.code == 3)
      #expect(outcome.text == "\(name) is degraded")
      #expect(outcome.errors.contains("broken.service - A unit that fails"))
      #expect(outcome.errors.contains("these are the last words"))
      #expect(outcome.errorLines.last?.hasPrefix("hengectl: cannot boot '\(name)': 1 unit failed") ?? false)
      #expect(try sandbox.hengectl("wait", name).code == 3)
      #expect(try sandbox.succeed("status", name).contains("broken.service"))
      #expect(try sandbox.succeed("units", "--failed", name).contains("broken.service"))
      #expect(try sandbox.guest(name).run("systemctl", "is-system-running").text == "degraded")
      try sandbox.succeed("poweroff", name)

      // Mended, the same machine runs.
      unlink("\(wants)/broken.service")
      #expect(try sandbox.hengectl("start", name).code == 0)
      try sandbox.succeed("terminate", name)
      try sandbox.succeed("remove", name)
      // The folder is the operator's and stays, with the ids that it came with.
      var status = stat()
      #expect(lstat("\(tree)/usr/bin/dpkg", &status) == 0 && status.st_uid == 0)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aGuestWithoutBusIsAskedThroughThePrivateSocket() throws {
    try withSandbox("nobus") { sandbox in
      let tree = try unpack("trixie", in: sandbox)
      let units = "\(tree)/usr/lib/systemd/system"
      // The last one is what systemd would make a service of; logind needs a bus, and without one could only fail.
      for unit in [
        "dbus.socket", "dbus.service", "sockets.target.wants/dbus.socket", "multi-user.target.wants/dbus.service",
        "multi-user.target.wants/systemd-logind.service", "../../../../etc/init.d/dbus",
      ] { try check(unlink("\(units)/\(unit)"), "remove", unit) }
      try sandbox.succeed("import-fs", tree, "nobus")
      let name = sandbox.name("nobus")
      try sandbox.succeed("create", "nobus", name)
      #expect(try sandbox.succeed("start", name) == "\(name) is running")
      let guest = try sandbox.guest(name)
      #expect(try guest.run("test", "-e", "/run/dbus/system_bus_socket").code == 1)
      #expect(try sandbox.succeed("status", name).contains("Guest bus: private socket"))
      #expect(try sandbox.succeed("units", name).contains("systemd-journald.service"))
      try sandbox.succeed("poweroff", name)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aRebootFromInsideComesBackAsTheSameMachine() throws {
    try withSandbox("reboot") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("again")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let before = try sandbox.guest(name)
      #expect(try sandbox.succeed("status", name).contains("Guest bus: system bus"))
      let identity = try before.succeed("cat", "/etc/machine-id")
      #expect(identity.count == 32)
      try before.succeed("touch", "/root/kept")
      let ended = try Pidfd(opening: before.leader)
      _ = try before.run("systemctl", "reboot")
      // The old leader's end is the one moment from which on only the new one can be meant.
      var poll = pollfd(fd: ended.descriptor.raw, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 60_000) == 1)
      try sandbox.succeed("wait", name, "--timeout", "60")
      let after = try sandbox.guest(name)
      #expect(after.leader != before.leader)
      #expect(try after.succeed("cat", "/etc/machine-id") == identity)
      #expect(try after.run("test", "-e", "/root/kept").code == 0)
      #expect(after.state["uuid"] == before.state["uuid"])
      #expect(after.uidBase == before.uidBase)

      try sandbox.succeed("reboot", name)
      let third = try sandbox.guest(name)
      #expect(third.leader != after.leader)
      #expect(try third.succeed("cat", "/etc/machine-id") == identity)
      #expect(try third.succeed("systemctl", "is-system-running") == "running")
      try sandbox.succeed("poweroff", name)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aCloneIsSomebodyElse() throws {
    try withSandbox("clone") { sandbox in
      try sandbox.image("trixie")
      for ownership in ["map", "chown"] {
        let (first, second) = (sandbox.name("\(ownership)-a"), sandbox.name("\(ownership)-b"))
        try sandbox.succeed("create", "-s", "PrivateUsersOwnership=\(ownership)", "trixie", first)
        #expect(try sandbox.hengectl("create", "trixie", first).code == 1, "the name is taken")
        try sandbox.succeed("start", first)
        let original = try sandbox.guest(first)
        try original.succeed("sh", "-c", "echo mine > /root/note; chown 1000:1000 /root/note")
        let identity = try original.succeed("cat", "/etc/machine-id")
        #expect(try sandbox.hengectl("clone", first, second).code == 1, "it is running")
        try sandbox.succeed("poweroff", first)
        try sandbox.succeed("clone", first, second)
        for name in [first, second] { try sandbox.succeed("start", name) }
        let (one, other) = (try sandbox.guest(first), try sandbox.guest(second))
        #expect(one.state["uuid"] != other.state["uuid"])
        #expect(!one.uids.overlaps(other.uids))
        #expect(try one.succeed("cat", "/etc/machine-id") == identity)
        let its = try other.succeed("cat", "/etc/machine-id")
        #expect(its.count == 32 && its != identity, "\(ownership)")
        #expect(try other.succeed("stat", "-c", "%u:%g", "/root/note") == "1000:1000")
        #expect(try other.succeed("cat", "/root/note") == "mine")
        try other.succeed("sh", "-c", "echo theirs > /root/note")
        #expect(try one.succeed("cat", "/root/note") == "mine")
        for name in [first, second] { try sandbox.succeed("terminate", name) }
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func twoInstallationsDoNotHarmEachOthersMachines() throws {
    try withSandbox("here") { here in
      try withSandbox("there") { there in
        let name = here.name("same")
        for sandbox in [here, there] {
          try sandbox.image("trixie")
          try sandbox.succeed("create", "trixie", name)
        }
        try here.succeed("start", name)
        let guest = try here.guest(name)
        #expect(try there.succeed("start", name) == "\(name) is running")
        #expect(try there.guest(name).leader != guest.leader)
        for sandbox in [there, here] { #expect(try sandbox.hengectl("list").code == 0) }
        #expect(try here.guest(name).leader == guest.leader)
        #expect(try guest.run("systemctl", "is-system-running").text == "running")
        try here.succeed("terminate", name)
        #expect(try there.guest(name).run("systemctl", "is-system-running").text == "running")
        try there.succeed("poweroff", name)
      }
    }
  }
}
