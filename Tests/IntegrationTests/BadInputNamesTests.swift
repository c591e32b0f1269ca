import Glibc
import Linux
import Testing
import Varlink

@Suite("Bad input: names, command lines and specs", .serialized)
struct BadInputNamesTests {
  static let badNames = [
    "", "..", ".", "-rf", String(repeating: "a", count: 300), "a\nb", "a/b", "../x", "\u{1b}[31mx", "ünï", "a b",
    ".x.new", "a\tb",
  ]

  @Test(.needsPrograms)
  func aBadNameIsRefusedByEveryVerb() throws {
    try withSandbox("names") { sandbox in
      let before = try sandbox.host()
      for name in Self.badNames {
        for verb in [
          "start", "poweroff", "terminate", "remove", "status", "show", "units", "plan", "wait", "kill", "reboot",
        ] {
          expectRefusal(try sandbox.hengectl(verb, "--", name), code: 2, "name")
        }
        expectRefusal(try sandbox.hengectl("create", "--", "image", name), code: 2, "name")
        expectRefusal(try sandbox.hengectl("clone", "--", name, "x"), code: 2, "name")
        expectRefusal(try sandbox.hengectl("image-status", "--", name), code: 2, "name")
        expectRefusal(try sandbox.hengectl("remove-image", "--", name), code: 2, "name")
        expectRefusal(try sandbox.hengectl("import-fs", "--", "/etc/ssl", name), code: 2, "name")
        expectRefusal(try sandbox.hengectl("import-tar", "--", "/dev/null", name), code: 2, "name")
      }
      _ = before
      #expect(names(in: "\(sandbox.state)/machines").isEmpty)
    }
  }

  @Test(.needsPrograms)
  func whatIsNotThereEndsWith4() throws {
    try withSandbox("unknown") { sandbox in
      for verb in [
        "start", "poweroff", "terminate", "remove", "status", "show", "units", "plan", "wait", "kill", "reboot",
      ] {
        expectRefusal(try sandbox.hengectl(verb, "nosuch"), code: 4, "'nosuch'")
      }
      expectRefusal(try sandbox.hengectl("clone", "nosuch", "x"), code: 4, "'nosuch'")
      for arguments in [
        ["create", "nosuch", "x"], ["run", "nosuch", "x"], ["image-status", "nosuch"], ["remove-image", "nosuch"],
      ] {
        expectRefusal(try sandbox.hengectl(arguments), code: 4, "image 'nosuch'")
      }
      #expect(names(in: "\(sandbox.state)/uid-ranges").filter { !$0.hasPrefix(".") } == [])
    }
  }

  @Test(
    .needsPrograms,
    arguments: [
      ["bogus"], ["start"], ["start", "-rf"], ["list", "--bogus"], ["list", "extra"], ["create", "x"],
      ["start", "x", "--timeout", "y"],
      ["start", "x", "--timeout", "nan"], ["start", "x", "--timeout=-1"], ["kill", "x", "--kill-whom", "nobody"],
      ["kill", "x", "-S", "FOO"], ["\u{1b}[31mbog\nus"],
      ["import-tar", "a", "b", "--max-bytes", "z"],
    ])
  func aBadCommandLineIsOneLine(arguments: [String]) throws {
    try withSandbox("usage") { sandbox in expectRefusal(try sandbox.hengectl(arguments), code: 2) }
  }

  @Test(.needsPrograms)
  func aPlaceThatIsNotAbsoluteIsRefused() throws {
    for variable in ["HENGE_STATE_DIR", "HENGE_RUNTIME_DIR", "HENGE_CONFIG_DIR"] {
      let outcome = try run(["\(Checkout.programs)/hengectl", "list"], environment: ["\(variable)=relative"])
      expectRefusal(outcome, code: 2, variable)
    }
    let outcome = try run(
      ["\(Checkout.programs)/henge-import", "fs", "/etc/ssl", "x"], environment: ["HENGE_STATE_DIR=relative"])
    expectRefusal(outcome, code: 2, "absolute")
  }

  @Test(.needsRoot, .needsPrograms)
  func missingParentsOfThePlacesAreMade() throws {
    try withSandbox("parents") { sandbox in
      try sandbox.makeWork()
      try runWell(["mkdir", "-p", "\(sandbox.work)/root/usr"])
      for verb in [["import-fs", "\(sandbox.work)/root", "x"], ["list-images"], ["list"]] {
        let place = "\(sandbox.work)/\(verb[0])/y/z"
        let outcome = try run(["\(Checkout.programs)/hengectl"] + verb, environment: ["HENGE_STATE_DIR=\(place)"])
        #expect(outcome.succeeded, "\(outcome)")
      }
      let file = try run(["\(Checkout.programs)/hengectl", "list"], environment: ["HENGE_STATE_DIR=/etc/passwd"])
      expectRefusal(file, code: 1, "not a directory")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func nonsenseInASpecIsPointedAt() throws {
    try withSandbox("specs") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("spec", root: try sandbox.makeRoot("root"))
      let path = "\(sandbox.configuration)/\(machine).machine"
      let cases: [(String, Int32, String)] = [
        ("nonsense\n", 2, ".machine:1"), ("[Machine]\nHostname=\u{1b}[31mred\n", 2, ".machine:2"),
        ("[Machine\n", 2, ".machine:1"),
        ("=\n==\n[]\n", 2, ".machine:3"), ("[Machine]\nUUID=zz\nHostname=-x\n", 2, ".machine:3"),
        ("\u{0}\u{1}", 2, "NUL"), ("[Files]\nBind=../x\n", 2, "Bind="), ("[Files]\nBind=/etc:/../../x\n", 2, "Bind="),
        ("[Files]\nBind=/tmp:/\n", 2, "Bind="), ("[Files]\nBind=/tmp:/dev\n", 2, "Bind="),
        ("[Files]\nBind=/tmp:/proc/1\n", 2, "Bind="), ("[Files]\nTemporaryFileSystem=/run/host\n", 2, "set-up"),
        ("[Exec]\nCapability=CAP_FOO\n", 2, "Capability="),
        ("[Resources]\nMemoryMax=banana\n", 2, "MemoryMax="), ("[Exec]\nTimeoutStopSec=-5\n", 2, "TimeoutStopSec="),
        ("[Machine]\nBoot=no\n", 2, "Boot="), ("[Exec]\nLoadCredential=x:/nonexistent\n", 1, "credential 'x'"),
        ("[Exec]\nLoadCredential=x:/dev/zero\n", 1, "credential 'x'"),
        ("[Files]\nTemporaryFileSystem=/mnt:size=banana\n", 2, "TemporaryFileSystem="),
        ("[Files]\nBind=/nonexistent:/x\n", 1, "bind '/nonexistent'"),
        (String(repeating: "a", count: 10_000_000), 1, "larger than"),
      ]
      for (text, code, words) in cases {
        try write(text, to: path)
        let before = try sandbox.host()
        expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: code, words)
        #expect(try sandbox.host() == before)
      }
      unlink(path)
      try check(mkfifo(path, 0o600), "make a fifo")
      expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: 2, "not a file")
      expectRefusal(try sandbox.hengectl("plan", machine), code: 2, "not a file")
      unlink(path)
      try check(mkdir(path, 0o700), "make a folder")
      expectRefusal(try sandbox.hengectl("start", "--timeout", "10", machine), code: 2, "not a file")
      rmdir(path)
      try check(mkdir("\(path).d", 0o700), "make a folder")
      try check(mkfifo("\(path).d/x.conf", 0o600), "make a fifo")
      expectRefusal(try sandbox.hengectl("plan", machine), code: 2, "not a file")
      try runWell(["rm", "-r", "\(path).d"])
      for assignment in ["x", "=", "Foo=1", "Machine.Hostname=-", "Hostname=a\nb", ""] {
        expectRefusal(try sandbox.hengectl("start", machine, "-s", assignment), code: 2, "command line")
        expectRefusal(
          try sandbox.hengectl("create", "spec", sandbox.name("new"), "-s", assignment), code: 2, "command line")
      }
      // A word that is not known is no more than a warning, with its place.
      try write("[Machine]\nFuture\u{1b}[31m=1\n", to: path)
      let outcome = try sandbox.hengectl("start", "--no-wait", machine)
      #expect(outcome.succeeded && outcome.errors.contains(".machine:2: warning: "), "\(outcome)")
      expectHarmless(outcome)
    }
  }
}
