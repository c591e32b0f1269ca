import Glibc
import Linux
import Testing

@Suite("Bad input: archives and roots", .serialized)
struct BadInputImageTests {
  @Test(.needsRoot, .needsPrograms)
  func anArchiveThatReachesOutOfItsRootIsRefused() throws {
    try withSandbox("tar") { sandbox in
      try sandbox.makeWork()
      let file = "\(sandbox.work)/bad.tar"
      let data: [UInt8] = Array("from the archive".utf8)
      let outside = "\(sandbox.decoy)/victim"
      try sandbox.succeed("list-images")
      let cases: [(String, (inout TestArchive) -> Void)] = [
        ("'..'", { $0.add("../../../../..\(outside)", contents: data) }),
        ("'..'", { $0.add("usr/../../x", contents: data) }),
        ("absolute", { $0.add(outside, contents: data) }),
        ("hard link", { $0.add("usr/h", type: "1", link: outside) }),
        ("hard link", { $0.add("usr/h", type: "1", link: "../../../../../../..\(outside)") }),
        (
          "hard link",
          {
            $0.add("usr/l", type: "2", link: sandbox.decoy); $0.add("usr/h", type: "1", link: "usr/l/victim")
          }
        ),
        (
          "symbolic link",
          {
            $0.add("usr/l", type: "2", link: sandbox.decoy); $0.add("usr/l/x", contents: data)
          }
        ),
        (
          "symbolic link",
          {
            $0.add("usr/l", type: "2", link: "../../../../../../.."); $0.add("usr/l/tmp/x", contents: data)
          }
        ),
        ("no folder", { $0.add(".", type: "2", link: sandbox.decoy) }),
        ("70000", { $0.add("usr/f", owner: 70000, contents: data) }),
      ]
      for (words, make) in cases {
        var archive = TestArchive()
        make(&archive)
        try archive.write(to: file)
        let before = try sandbox.host()
        expectRefusal(try sandbox.hengectl("import-tar", file, "bad"), code: 1, words)
        #expect(try sandbox.host() == before)
      }
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func anArchiveThatIsNoneIsRefused() throws {
    try withSandbox("notar") { sandbox in
      try sandbox.makeWork()
      let file = "\(sandbox.work)/bad.tar"
      func refuse(_ words: String) throws {
        let before = try sandbox.host()
        expectRefusal(try sandbox.hengectl("import-tar", file, "bad"), code: 1, words)
        #expect(try sandbox.host() == before)
      }
      try sandbox.succeed("list-images")
      try write("", to: file)
      try refuse("empty")
      try write(String(repeating: "\u{0}", count: 10240), to: file)
      try refuse("no entries")
      try write(String(repeating: "this is no tar archive\n", count: 200), to: file)
      try refuse("no tar archive")
      var archive = TestArchive()
      archive.add("usr/f", contents: [UInt8](repeating: 1, count: 100_000))
      for end in [512 + 3, 1024 + 200, 1536 + 50_000] {
        try archive.write(to: file, cutOffAt: end)
        try refuse("cut off")
      }
      try archive.write(to: file)
      try runWell(["gzip", "-kf", file])
      try runWell(["truncate", "-s", "-20", file + ".gz"])
      try runWell(["mv", file + ".gz", file])
      try refuse("cut off")
      expectRefusal(try sandbox.hengectl("import-tar", sandbox.work, "bad"), code: 1, "import-fs")
      expectRefusal(try sandbox.hengectl("import-tar", "/nonexistent", "bad"), code: 1, "no such file")
      expectRefusal(try sandbox.hengectl("import-fs", file, "bad"), code: 1, "not a directory")
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func aBombIsBoundedByTheOptions() throws {
    try withSandbox("bomb") { sandbox in
      try sandbox.makeWork()
      let root = "\(sandbox.work)/sparse"
      try runWell(["mkdir", "-p", "\(root)/usr"])
      try runWell(["truncate", "-s", "1T", "\(root)/usr/big"])
      try runWell(["tar", "-S", "-C", root, "-cf", "\(sandbox.work)/sparse.tar", "."])
      var many = TestArchive()
      for number in 0..<20_000 { many.add("usr/\(number)") }
      try many.write(to: "\(sandbox.work)/many.tar")
      let before = try sandbox.host()
      expectRefusal(
        try sandbox.hengectl("import-tar", "--max-bytes", "1000000000", "\(sandbox.work)/sparse.tar", "bad"), code: 1,
        "more than 1000000000 bytes")
      expectRefusal(
        try sandbox.hengectl("import-tar", "--max-entries", "1000", "\(sandbox.work)/many.tar", "bad"), code: 1,
        "more than 1000 entries")
      #expect(names(in: "\(sandbox.state)/images").filter { !$0.hasPrefix(".") } == [])
      // Without a limit a hole is a hole, and costs nothing.
      try sandbox.succeed("import-tar", "\(sandbox.work)/sparse.tar", "sparse")
      let used = try runWell(["du", "-sk", sandbox.state]).split(separator: "\t").first.flatMap { Int($0) }
      #expect((used ?? .max) < 1000)
      try sandbox.succeed("remove-image", "sparse")
      #expect(before.contains("decoy/victim"))
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func deviceNodesAndNamesOfAnArchiveAreHarmless() throws {
    try withSandbox("nodes") { sandbox in
      try sandbox.makeWork()
      var archive = TestArchive()
      archive.add("etc/sda", type: "4", mode: 0o666)
      archive.add("usr/\u{1b}[31mred\u{7}")
      archive.add("etc/os-release", contents: Array("PRETTY_NAME=\"\u{1b}]0;owned\u{7}\u{202e}\u{9b}31m\"\n".utf8))
      try archive.write(to: "\(sandbox.work)/a.tar")
      let imported = try sandbox.hengectl("import-tar", "\(sandbox.work)/a.tar", "nodes")
      #expect(imported.succeeded && imported.errors.contains("left out 1 device"))
      #expect(!names(in: "\(sandbox.state)/images/nodes/layer-0/etc").contains("sda"))
      for arguments in [["list-images"], ["image-status", "nodes"]] {
        let shown = try sandbox.hengectl(arguments)
        #expect(shown.succeeded && shown.output.contains("owned"))
        expectHarmless(shown)
        _ = try sandbox.hengectl(arguments + ["--json"]).json()
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aLinkAtASetUpTargetIsRefused() throws {
    try withSandbox("targets") { sandbox in
      try sandbox.makeWork()
      for target in ["dev", "proc", "sys", "run", "etc", "tmp"] {
        for kind in ["absolute", "dangling", "file"] {
          let root = try sandbox.makeRoot("root")
          try runWell(["rm", "-r", "\(root)/\(target)"])
          let link = kind == "absolute" ? sandbox.decoy : "/nonexistent-henge"
          if kind == "file" {
            try write("", to: "\(root)/\(target)")
          } else {
            try check(symlink(link, "\(root)/\(target)"), "link")
          }
          let machine = try sandbox.makeMachine("target", root: root)
          let before = try sandbox.host()
          expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: 1, "'/\(target)'")
          #expect(try sandbox.host() == before)
          #expect(sandbox.snapshot().groups.isEmpty && sandbox.snapshot().processes.isEmpty)
          try sandbox.drop("target")
        }
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func linksInEtcAreNotFollowed() throws {
    try withSandbox("etclinks") { sandbox in
      try sandbox.makeWork()
      let root = try sandbox.makeRoot("root")
      for name in ["resolv.conf", "hostname", "machine-id", "hosts", "localtime"] {
        try check(symlink("\(sandbox.decoy)/victim", "\(root)/etc/\(name)"), "link")
      }
      try check(symlink(sandbox.decoy, "\(root)/var/log"), "link")
      let machine = try sandbox.makeMachine("etclinks", root: root)
      let before = try sandbox.host()
      // An init without a bus: it is up, and cannot be asked.
      #expect(try sandbox.hengectl("start", "--timeout", "20", machine).code == 3)
      try sandbox.succeed("terminate", machine)
      #expect(try sandbox.host() == before)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func anInitThatCannotRunIsNamed() throws {
    try withSandbox("inits") { sandbox in
      try sandbox.makeWork()
      let program = try HostileInit.program()
      let decoy = sandbox.decoy
      // A line of shell that spoils the init in the current directory, the exit code, and words of the line.
      let cases: [(String, Int32, String)] = [
        ("rm sbin/init", 1, "no init"),
        ("printf '\\267\\000' | dd of=sbin/init bs=1 seek=18 conv=notrunc status=none", 5, "another processor"),
        (": >sbin/init", 1, "neither an ELF program nor a script"),
        ("head -c 3000 \(program) >sbin/init", 1, "signal"),
        ("rm sbin/init; mkfifo sbin/init", 1, "not a program"),
        ("rm sbin/init; mkdir sbin/init", 1, "not a program"),
        ("rm sbin/init; ln -s init sbin/init", 1, "in a circle"),
        ("rm sbin/init; ln -s /nonexistent sbin/init", 1, "no init"),
        ("rm sbin/init; ln -s \(decoy)/victim sbin/init", 1, "no init"),
        ("rm -r sbin; ln -s \(decoy) sbin", 1, "no init"),
        ("chmod 644 sbin/init", 1, "not executable"),
        ("printf '#!/bin/sh\\nexit 0\\n' >sbin/init", 1, "interpreter"),
      ]
      for (line, code, words) in cases {
        let root = try sandbox.makeRoot("root")
        try runWell(["sh", "-ec", "cd \"$0\"; \(line)", root])
        let machine = try sandbox.makeMachine("init", root: root)
        let before = try sandbox.host()
        expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: code, words)
        #expect(try sandbox.host() == before)
        try sandbox.drop("init")
      }
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func noDirectoryOfTheHostIsTakenInPlace() throws {
    try withSandbox("inplace") { sandbox in
      try sandbox.makeWork()
      try check(symlink("/", "\(sandbox.work)/slash"), "link")
      let machine = sandbox.name("ip")
      for path in ["/", "\(sandbox.work)/slash", "/proc", "/proc/sys", "/etc", "/usr/lib", "/var", "/dev/shm", "/tmp"] {
        expectRefusal(try sandbox.hengectl("create", "--in-place", path, machine), code: 2, "use in place")
      }
      for path in [sandbox.folder, sandbox.state, "\(sandbox.state)/machines"] {
        expectRefusal(try sandbox.hengectl("create", "--in-place", path, machine), code: 2, "use in place")
      }
      let mounts = try PrivateMounts("mount --bind / /mnt", sandbox)
      expectRefusal(try mounts.hengectl("create", "--in-place", "/mnt", machine), code: 2, "root")
      expectRefusal(try sandbox.hengectl("create", "--in-place", "/nonexistent", machine), code: 1, "no such file")
      expectRefusal(try sandbox.hengectl("create", "--in-place", "/etc/passwd", machine), code: 1, "not a directory")
      #expect(names(in: "\(sandbox.state)/machines").filter { !$0.hasPrefix(".") } == [])
    }
  }

  @Test(.needsRoot, .needsPrograms)
  func aMachineWhoseDirectoryIsGoneCanBeRemoved() throws {
    try withSandbox("gone") { sandbox in
      try sandbox.makeWork()
      let machine = sandbox.name("gone")
      try runWell(["mkdir", "-p", "\(sandbox.work)/root/usr"])
      try sandbox.succeed(
        "create", "--in-place", "\(sandbox.work)/root", machine, "-s", "Files.PrivateUsersOwnership=chown")
      expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: 1, "no init")
      expectRefusal(
        try sandbox.hengectl("create", "--in-place", "\(sandbox.work)/root/usr", sandbox.name("other")), code: 2,
        "in the other")
      try runWell(["rm", "-r", "\(sandbox.work)/root"])
      expectRefusal(try sandbox.hengectl("start", machine), code: 1, "no such file")
      try sandbox.succeed("remove", machine)
    }
  }
}
