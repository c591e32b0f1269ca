import Glibc
import Linux
import SystemPackage
import Testing

/// A folder that goes away with the test.
func withFolder<Result>(_ body: (Descriptor, String) throws -> Result) throws -> Result {
  var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
  let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer { remove(path) }
  return try body(try .open(path, .directory), path)
}

private func remove(_ path: String) {
  if let folder = try? Descriptor.open(path, [.directory, .noFollow]), let names = try? folder.names() {
    for name in names {
      if unlink("\(path)/\(name)") < 0 { remove("\(path)/\(name)") }
    }
  }
  rmdir(path)
}

@Suite struct DescriptorTests {
  @Test func aLookupBeneathRefusesEveryLink() throws {
    try withFolder { folder, path in
      mkdir("\(path)/real", 0o755)
      symlink("real", "\(path)/relative")
      symlink("/etc", "\(path)/absolute")
      symlink("..", "\(path)/up")
      #expect(throws: Never.self) { try folder.open("/real", .path, lookup: .beneath) }
      for link in ["relative", "absolute", "up", "relative/x", "absolute/passwd"] {
        let error = #expect(throws: Failure.self) { try folder.open(link, .directory, lookup: .beneath) }
        #expect(error?.errno == .tooManySymbolicLinkLevels, "\(link)")
      }
      #expect(throws: Failure.self) { try folder.open("../etc", .path, lookup: .beneath) }
    }
  }

  @Test func aLookupOnTheSameMountEntersNoOther() throws {
    let root = try Descriptor.open("/", .directory)
    #expect(throws: Never.self) { try root.open("proc/stat", lookup: .beneath) }
    #expect(throws: Never.self) { try root.open("proc", .path, lookup: .trusted) }
    let error = #expect(throws: Failure.self) { try root.open("proc/stat", lookup: .sameMount) }
    #expect(error?.errno == .improperLink, "EXDEV")
  }

  @Test func aLookupInTheRootStaysThere() throws {
    try withFolder { folder, path in
      mkdir("\(path)/etc", 0o755)
      symlink("/etc", "\(path)/absolute")
      symlink("../../../../etc", "\(path)/up")
      let inside = try folder.open("etc", .path, lookup: .inRoot).status().inode
      for link in ["absolute", "up", "/../etc"] {
        #expect(try folder.open(link, .path, lookup: .inRoot).status().inode == inside, "\(link)")
      }
      symlink("/proc/self/root", "\(path)/magic")
      #expect(throws: Failure.self) { try folder.open("magic/etc", .path, lookup: .inRoot) }
    }
  }

  @Test func aReplacedFileIsWholeAndLeavesNothingBeside() throws {
    try withFolder { folder, _ in
      try folder.replaceFile("a", with: Array("one".utf8))
      try folder.replaceFile("a", with: Array("two".utf8))
      #expect(try folder.readFile("a") == Array("two".utf8))
      #expect(try folder.names() == ["a"])
      #expect(try folder.readFile("missing") == nil)
      #expect(throws: Failure.self) { try folder.readFile("a", limit: 2) }
    }
  }

  @Test func aFIFOInPlaceOfAFileDoesNotHang() throws {
    try withFolder { folder, path in
      mkfifo("\(path)/f", 0o600)
      _ = try? folder.readFile("f")
    }
  }

  @Test func onlyOneHoldsALock() throws {
    try withFolder { folder, _ in
      let first = try folder.open("l", [.readWrite, .create], lookup: .beneath, mode: 0o600)
      let second = try folder.open("l", .readWrite, lookup: .beneath)
      #expect(try first.lock())
      #expect(try !second.lock())
      #expect(try !second.lock(exclusive: false))
    }
  }

  @Test func aDescriptorTravelsAndSurplusIsClosed() throws {
    let pair = try SocketPair(packets: true)
    try pair.first.send([1, 2], passing: try .open("/etc/passwd"))
    let received = try #require(try pair.second.receive())
    #expect(received.bytes == [1, 2])
    #expect(try received.descriptor?.status().kind == .regular)
  }

  @Test func aSealedProgramCannotBeWritten() throws {
    let program = try Descriptor.sealedProgram(copying: "/bin/true")
    #expect(write(program.raw, "x", 1) < 0)
    #expect(ftruncate(program.raw, 0) < 0)
    #expect(open("/proc/self/fd/\(program.raw)", O_WRONLY) >= 0 || errno != 0)
  }
}

@Suite struct ProcessTests {
  @Test func theExitIsTheProgramsOwn() throws {
    let plain = try ProcessRequest(.path("/bin/sh"), arguments: ["sh", "-c", "exit 7"]).start().process
    #expect(try plain.reap(wait: true) == .exited(7))
    let killed = try ProcessRequest(.path("/bin/sh"), arguments: ["sh", "-c", "kill -9 $$"]).start().process
    #expect(try killed.reap(wait: true) == .signalled(9))
  }

  @Test func aProgramThatIsNotThereIsNamed() throws {
    let error = #expect(throws: Failure.self) { try ProcessRequest(.path("/no/such"), arguments: ["x"]).start() }
    #expect(error?.errno == .noSuchFileOrDirectory)
  }

  /// Whatever else is open here must not reach a program that we start.
  @Test func nothingLeaksIntoAProgram() throws {
    let other = try Descriptor.open("/etc/passwd")
    let pair = try SocketPair(packets: false)
    let request = ProcessRequest(
      .path("/bin/sh"), arguments: ["sh", "-c", "ls /proc/self/fd | wc -l"], environment: ["PATH=/usr/bin:/bin"],
      descriptors: [nil, pair.second])
    #expect(try request.start().process.reap(wait: true) == .exited(0))
    shutdown(pair.second.raw, Int32(SHUT_RDWR))
    let text = String(decoding: try pair.first.readAll(subject: "output"), as: UTF8.self)
    // 0 and 1, what the shell's own ls opens, and standard error that was not given.
    #expect(Int(text.filter(\.isNumber)).map { $0 <= 4 } == true, "\(text)")
    withExtendedLifetime(other) {}
  }
}

@Suite struct FailureTests {
  @Test func oneLineWithoutControlCharacters() {
    let failure = Failure("open", "a\nb\u{1b}[31m\u{202e}", "no", advice: "do")
    #expect(failure.description == "cannot open 'a\\x0ab\\x1b[31m\\u{202e}': no; do")
  }

  @Test func longTextIsCut() {
    #expect(printable(String(repeating: "x", count: 2000), limit: 10).count == 11)
  }
}

@Suite struct UIDRangeTests {
  @Test func overlap() {
    let range = UIDRange(base: 65536)
    #expect(range.last == 131071)
    #expect(range.overlaps(UIDRange(base: 131071, count: 1)))
    #expect(!range.overlaps(UIDRange(base: 131072)))
    #expect(!range.overlaps(UIDRange(base: 0)))
  }

  @Test(.enabled(if: geteuid() == 0, "needs root: it maps ids of others"))
  func aNamespaceMapsTheRangeAndBelongsToIt() throws {
    let namespace = try UserNamespace(mapping: UIDRange(base: 700_000_000))
    var owner: UInt32 = 0
    // NS_GET_OWNER_UID
    #expect(ioctl(namespace.descriptor.raw, 0xb704, &owner) == 0)
    #expect(owner == 700_000_000, "the kernel charges what it uses to its owner")
  }
}

@Suite struct CapabilityTests {
  @Test func namesAndNumbers() {
    #expect(Capabilities.number(of: "CAP_SYS_ADMIN") == 21)
    #expect(Capabilities.name(of: 21) == "CAP_SYS_ADMIN")
    #expect(Capabilities.number(of: "CAP_NONSENSE") == nil)
    #expect(Capabilities.count > 37)
  }
}
