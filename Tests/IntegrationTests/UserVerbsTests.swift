import Glibc
import Linux
import Testing
import Varlink

/// What root does with machines, done by an ordinary user. What a kernel keeps for root is refused with that reason.
@Suite("Ordinary users' verbs", .serialized)
struct UserVerbsTests {
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func everyVerbIsAnOrdinaryUsersAsWell() throws {
    try withUsers("users-verbs", ids: [2 * 65536]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("create", "trixie", "a")
      try user.succeed("start", "a")
      try commands(user)
      try sessions(user)
      try files(user, host)
      try resources(user)
      try ports(user)
      try records(user)
      try user.succeed("kill", "a", "--signal", "KILL")
      let end = try user.hengectl("wait", "a", "--for", "stopped", "--timeout", "60")
      #expect(end.succeeded || end.errors.contains("ended by signal 9"), "\(end)")
      #expect(user.processes.isEmpty)
      try user.succeed("rename", "a", "b")
      try user.succeed("clone", "b", "c")
      #expect(names(in: "\(user.state)/machines").filter { !$0.hasPrefix(".") }.sorted() == ["b", "c"])
      // There is nobody who would start it: that has its reason as well.
      let enable = try user.hengectl("enable", "b")
      #expect(enable.code == 5 && enable.errors.contains("no systemd"), "\(enable)")
      for machine in ["b", "c"] { try user.succeed("remove", machine) }
      try user.succeed("remove-image", "trixie")
      #expect(host.sandbox.snapshot().groups.allSatisfy { !$0.contains("/henge-") })
    }
  }

  private func commands(_ user: TestUser) throws {
    #expect(try user.succeed("exec", "a", "--", "id", "-u") == "0")
    #expect(try user.succeed("exec", "--user", "nobody", "a", "--", "id", "-u") == "65534")
    #expect(try user.hengectl("exec", "a", "--", "sh", "-c", "exit 7").code == 7)
    #expect(try user.succeed("shell", "a", "/bin/sh", "-c", "id -u") == "0")
    #expect(try user.succeed("units", "a").contains("dbus.service"))
    try user.succeed("exec", "a", "--", "systemd-cat", "-t", "mine", "echo", "a line")
    try user.succeed("exec", "a", "--", "journalctl", "--sync")
    #expect(try user.succeed("journal", "a", "-t", "mine", "-o", "cat") == "a line")
    #expect(try user.succeed("events", "a").contains("running"))
  }

  private func sessions(_ user: TestUser) throws {
    for (verb, prompt) in [("shell", "# "), ("login", "a login: ")] {
      let attached = try user.attach(verb, "a")
      try attached.expect(prompt)
      if verb == "shell" {
        attached.send("echo $((6*7))\r")
        try attached.expect("42\r\n")
      }
      attached.send("\u{1d}\u{1d}\u{1d}")
      #expect(try attached.finish() == 0, "\(attached.output)")
    }
    let console = try user.attach("console", "a")
    try console.expect("the console of a")
    console.send("\u{1d}\u{1d}\u{1d}")
    #expect(try console.finish() == 0, "\(console.output)")
  }

  private func files(_ user: TestUser, _ host: UserHost) throws {
    _ = try user.run(["sh", "-c", "mkdir ~/tree && echo mine >~/tree/file && chmod 755 ~ ~/tree"])
    try user.succeed("copy-to", "a", "\(user.home)/tree", "/root/tree")
    #expect(try user.succeed("exec", "a", "--", "stat", "-c", "%u %s", "/root/tree/file") == "0 5")
    try user.succeed("copy-from", "a", "/root/tree", "\(user.home)/back")
    var status = stat()
    #expect(lstat("\(user.home)/back/file", &status) == 0 && status.st_uid == user.uid && status.st_size == 5)
    // Only the root of the host's own namespace maps the ids of its file systems.
    let mapped = try user.hengectl("bind", "--mkdir", "a", "\(user.home)/tree", "/mnt/tree")
    #expect(mapped.code == 5 && mapped.errors.contains("only the host's root may map"), "\(mapped)")
    #expect(mapped.errors.contains("--no-idmap"), "\(mapped)")
    try user.succeed("bind", "--no-idmap", "--mkdir", "--read-only", "a", "\(user.home)/tree", "/mnt/tree")
    #expect(try user.succeed("exec", "a", "--", "cat", "/mnt/tree/file") == "mine")
    #expect(try user.hengectl("exec", "a", "--", "touch", "/mnt/tree/file").code != 0)
    try user.succeed("unbind", "a", "/mnt/tree")
    #expect(try user.hengectl("exec", "a", "--", "test", "-e", "/mnt/tree/file").code == 1)
  }

  private func resources(_ user: TestUser) throws {
    #expect(try user.hengectl("top", "--json").json().arrayValue?.count == 1)
    let limits = try user.hengectl("set-limit", "a", "TasksMax=2000")
    let controllers = (read("\(user.group)/cgroup.controllers") ?? "").split { $0 == " " || $0 == "\n" }
    if controllers.contains("pids") {
      #expect(limits.succeeded, "\(limits)")
    } else {
      #expect(limits.code == 5 && limits.errors.contains("the pids controller"), "\(limits)")
    }
    let guest = try user.guest("a")
    // The machine's own group is below the one that is frozen.
    func isFrozen() -> Bool {
      let group = (Host.cgroupMount ?? "") + (Host.cgroup(guest.leader) ?? "")
      return (read("\(group)/cgroup.events") ?? "").contains("frozen 1")
    }
    try user.succeed("freeze", "a")
    #expect(isFrozen())
    try user.succeed("thaw", "a")
    #expect(!isFrozen())
  }

  private func ports(_ user: TestUser) throws {
    let port = 20000 + Int(getpid()) % 20000
    try user.succeed("port", "a", "add", "127.0.0.1:\(port):7777")
    #expect(try user.succeed("port", "a").contains("7777"))
    // Whoever has no way to `/dev/net/tun` has a machine off the net; that somebody listens does not depend on that.
    let knock = ["curl", "--silent", "--max-time", "5", "telnet://127.0.0.1:\(port)"]
    #expect(try user.run(knock).code != 7)
    try user.succeed("port", "a", "remove", "127.0.0.1:\(port):7777")
    #expect(try !user.succeed("port", "a").contains("7777"))
    // Refused, by the host.
    #expect(try user.run(knock).code == 7)
  }

  private func records(_ user: TestUser) throws {
    #expect(try user.succeed("show", "a").contains("state=running"))
    #expect(try user.succeed("status", "a").contains("running"))
    #expect(try user.succeed("list").contains("running"))
    #expect(try user.succeed("plan", "a").contains("user namespace"))
    #expect(try user.succeed("image-status", "trixie").contains("Debian"))
    let doctor = try user.hengectl("doctor")
    #expect(doctor.code == 0 && !doctor.output.contains("MISSING"), "\(doctor)")
  }
}
