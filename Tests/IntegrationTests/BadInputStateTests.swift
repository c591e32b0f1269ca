import Glibc
import Linux
import Testing
import Varlink

@Suite("Bad input: disks, locks and damaged files", .serialized)
struct BadInputStateTests {
  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func twoStartsAtOnceAndWhatARunningMachineRefuses() throws {
    try withSandbox("twice") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("twice", root: try sandbox.makeRoot("root"))
      for _ in 0..<5 {
        let both = try [
          sandbox.start(["start", "--no-wait", machine]), sandbox.start(["start", "--no-wait", machine]),
        ]
        let outcomes = try both.map { try $0.wait() }.sorted { $0.code < $1.code }
        #expect(outcomes[0].succeeded, "\(outcomes[0])")
        expectRefusal(outcomes[1], code: 1, "cannot start '\(machine)'")
        try sandbox.succeed("terminate", machine)
      }
      try sandbox.succeed("start", "--no-wait", machine)
      expectRefusal(try sandbox.hengectl("start", machine), code: 1, "running already")
      expectRefusal(try sandbox.hengectl("remove", machine), code: 1, "running")
      expectRefusal(try sandbox.hengectl("clone", machine, sandbox.name("x")), code: 1, "running")
      expectRefusal(try sandbox.hengectl("remove-image", "twice"), code: 1, "used by \(machine)")
      expectRefusal(try sandbox.hengectl("create", "twice", machine), code: 1, "already")
      try sandbox.succeed("terminate", machine)
      for verb in ["poweroff", "terminate", "reboot", "kill", "units", "wait"] {
        expectRefusal(try sandbox.hengectl(verb, machine), code: 1, "not running")
      }
      let other = sandbox.name("other")
      let creates = try [sandbox.start(["create", "twice", other]), sandbox.start(["create", "twice", other])]
      let codes = try creates.map { try $0.wait().code }.sorted()
      #expect(codes == [0, 1])
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aLockOfSomebodyElsesIsSaidToBeOne() throws {
    try withSandbox("lock") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("lock", root: try sandbox.makeRoot("root"))
      let lock = try Descriptor.open("\(sandbox.state)/machines/\(machine)/lock", .readWrite)
      #expect(try lock.lock())
      for verb in ["start", "remove"] {
        expectRefusal(try sandbox.hengectl(verb, machine), code: 1, "another command is at it")
      }
      #expect(try sandbox.succeed("status", machine).contains("stopped"))
      #expect(try sandbox.succeed("list").contains(machine))
      withExtendedLifetime(lock) {}
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aDamagedRecordHidesNoOtherMachine() throws {
    try withSandbox("damaged") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("damaged", root: try sandbox.makeRoot("root"))
      let other = sandbox.name("other")
      try sandbox.succeed("create", "damaged", other)
      let path = "\(sandbox.state)/machines/\(machine)/machine.json"
      let good = try #require(read(path))
      func look() throws {
        expectRefusal(try sandbox.hengectl("status", machine), code: 1, machine)
        for arguments in [["list"], ["list", "--json"]] {
          let listed = try sandbox.hengectl(arguments)
          #expect(listed.succeeded && listed.output.contains(other) && listed.output.contains(machine), "\(listed)")
          expectHarmless(listed)
        }
      }
      let texts = [
        "", "{", "null", "[]", "{\"name\":\"x\"}", "\u{1b}[31m", String(repeating: "[", count: 100_000),
        String(repeating: " ", count: 2_000_000), good.replacingFirst("\"uidBase\": ", "\"uidBase\": 42949672"),
      ]
      for text in texts {
        try write(text, to: path)
        try look()
        expectRefusal(try sandbox.hengectl("start", machine), code: 1, machine)
      }
      unlink(path)
      try look()
      try check(mkfifo(path, 0o600), "make a fifo")
      try look()
      unlink(path)
      try check(symlink("/etc/passwd", path), "link")
      try look()
      unlink(path)
      try check(mkdir(path, 0o700), "make a folder")
      try look()
      try sandbox.succeed("remove", machine)
      let listed = try sandbox.hengectl("list", "--json").json().arrayValue
      #expect(listed?.count == 1)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aDamagedImageHidesNoOther() throws {
    try withSandbox("image") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("bad", root: try sandbox.makeRoot("root"))
      try sandbox.succeed("import-fs", "\(sandbox.work)/root", "good")
      let path = "\(sandbox.state)/images/bad/image.record"
      for text in ["", "garbage", "\u{1b}[31mred\n\u{7}"] {
        try write(text, to: path)
        expectRefusal(try sandbox.hengectl("image-status", "bad"), code: 1, "image.record")
        expectRefusal(try sandbox.hengectl("create", "bad", sandbox.name("x")), code: 1, "image.record")
        let listed = try sandbox.hengectl("list-images")
        #expect(listed.succeeded && listed.output.contains("good") && listed.output.contains("damaged"))
        expectHarmless(listed)
        _ = try sandbox.hengectl("list-images", "--json").json()
      }
      try runWell(["rm", "-r", "\(sandbox.state)/images/bad"])
      expectRefusal(try sandbox.hengectl("start", machine), code: 1, "layer-0")
      #expect(try sandbox.succeed("list").contains(machine))
      try sandbox.succeed("remove", machine)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aDamagedStateFileIsNotBelieved() throws {
    try withSandbox("state") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("state", root: try sandbox.makeRoot("root"))
      let victim = sandbox.name("victim")
      try sandbox.succeed("create", "state", victim)
      try sandbox.succeed("start", "--no-wait", victim)
      let group = try #require(try sandbox.hengectl("status", "--json", victim).json()["cgroup"]?.stringValue)
      let boot = trimmed(read("/proc/sys/kernel/random/boot_id") ?? "")
      let folder = "\(sandbox.runtime)/machines/\(machine)"
      for other in [group, "/etc", "\(group)/../../../../etc"] {
        try runWell(["mkdir", "-p", folder])
        try write(#"{"bootID":"\#(boot)","supervisor":1,"started":1,"cgroup":"\#(other)"}"#, to: "\(folder)/state.json")
        let listed = try sandbox.succeed("list")
        #expect(listed.contains(machine) && listed.contains(victim))
      }
      for text in ["", "{", "garbage"] {
        try runWell(["mkdir", "-p", folder])
        try write(text, to: "\(folder)/state.json")
        try sandbox.succeed("start", "--no-wait", machine)
        // That of a running machine is for the one who comes after it.
        try write(text, to: "\(folder)/state.json")
        let leader = try sandbox.status(machine, "leader")?.intValue
        #expect(leader != nil)
        try sandbox.succeed("terminate", machine)
      }
      let leader = try sandbox.status(victim, "leader")?.intValue
      #expect(leader != nil)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aReadOnlyDiskIsNamed() throws {
    try withSandbox("readonly") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("ro", root: try sandbox.makeRoot("root"))
      let before = try sandbox.host()
      let disk = try PrivateMounts(
        "mount --bind \(sandbox.state) \(sandbox.state); mount -o remount,ro,bind \(sandbox.state)", sandbox)
      let root = "\(sandbox.work)/root"
      for arguments in [["create", "ro", sandbox.name("x")], ["import-fs", root, "x"], ["remove-image", "ro"]] {
        expectRefusal(
          try disk.hengectl(arguments[0], arguments[1], arguments.count > 2 ? arguments[2] : machine), code: 1)
      }
      for verb in ["start", "remove"] { expectRefusal(try disk.hengectl(verb, machine), code: 1, "read-only") }
      #expect(try disk.hengectl("list").succeeded)
      #expect(try disk.hengectl("status", machine).succeeded)
      #expect(try disk.hengectl("list-images").output.contains("ro"))
      #expect(try sandbox.host() == before)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aFullDiskLeavesNothingHalf() throws {
    try withSandbox("full") { sandbox in
      try sandbox.makeWork()
      let root = try sandbox.makeRoot("root")
      let machine = sandbox.name("one")
      let disk = try PrivateMounts("mount -t tmpfs -o size=1600k,mode=0700 none \(sandbox.state)", sandbox)
      #expect(try disk.hengectl("import-fs", root, "x").succeeded)
      #expect(try disk.hengectl("create", "x", machine).succeeded)
      // The first start writes files of the machine's, such as its resolv.conf.
      #expect(try disk.hengectl("start", "--no-wait", machine).succeeded)
      #expect(try disk.hengectl("terminate", machine).succeeded)
      _ = try disk.shell("dd if=/dev/zero of=\(sandbox.state)/fill bs=4k 2>/dev/null || true")
      let before = try disk.shell("cd \(sandbox.state); find . | sort")
      expectRefusal(try disk.hengectl("create", "x", sandbox.name("two")), code: 1, "no space left")
      expectRefusal(try disk.hengectl("import-fs", root, "y"), code: 1, "no space left")
      #expect(try disk.shell("cd \(sandbox.state); find . | sort") == before)
      #expect(try disk.hengectl("list").output.contains(machine))
      // What needs no room still works.
      #expect(try disk.hengectl("start", "--no-wait", machine).succeeded)
      #expect(try disk.hengectl("terminate", machine).succeeded)
      #expect(try disk.hengectl("remove", machine).succeeded)
      _ = try disk.shell("rm \(sandbox.state)/fill")
      #expect(try disk.hengectl("create", "x", machine).succeeded)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aFullRunTimeFolderStopsAStart() throws {
    try withSandbox("fullrun") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("fullrun", root: try sandbox.makeRoot("root"))
      let disk = try PrivateMounts(
        "mount -t tmpfs -o size=64k,mode=0700 none \(sandbox.runtime); dd if=/dev/zero of=\(sandbox.runtime)/f bs=4k || true",
        sandbox)
      expectRefusal(try disk.hengectl("start", machine), code: 1, "no space left")
      #expect(try disk.shell("ls \(sandbox.runtime)/machines").isEmpty)
      #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func whenNoIdsAreFreeTheHostRefuses() throws {
    try withSandbox("ids") { sandbox in
      try sandbox.makeWork()
      try sandbox.succeed("import-fs", try sandbox.makeRoot("root"), "ids")
      let list = "\(sandbox.work)/subuid"
      try write("everybody:524288:1878523904\nbad\n:::\nx:-1:99999999999999999999\n", to: list)
      let host = try PrivateMounts("[ -e /etc/subuid ]; mount --bind \(list) /etc/subuid", sandbox)
      let before = try sandbox.host()
      for verb in ["create", "run"] {
        expectRefusal(try host.hengectl(verb, "ids", sandbox.name("x")), code: 5, "none of 65536 ids is free")
      }
      #expect(names(in: "\(sandbox.state)/machines").filter { !$0.hasPrefix(".") } == [])
      #expect(names(in: "\(sandbox.state)/uid-ranges").filter { !$0.hasPrefix(".") } == [])
      #expect(before.contains("decoy"))
    }
  }
}

extension String {
  func replacingFirst(_ text: String, _ other: String) -> String {
    guard let range = firstRange(of: text) else { return self }
    return replacingSubrange(range, with: other)
  }

  private func firstRange(of text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return nil
  }

  private func replacingSubrange(_ range: Range<Index>, with other: String) -> String {
    String(self[..<range.lowerBound]) + other + String(self[range.upperBound...])
  }
}
