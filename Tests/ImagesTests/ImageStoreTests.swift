import Archive
import Glibc
import Images
import Linux
import MachineSpec
import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "needs root"))
struct ImageStoreTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try must(["mkdir", folder("state")])
  }

  private func store() throws -> ImageStore { try ImageStore(state: open(folder("state")), path: folder("state")) }

  private func makeImage(_ name: String) throws {
    try makeRoot(folder(name))
    let result = try store().importDirectory(open(folder(name)), source: name, as: ImageName(name)) { _ in }
    #expect(result.record.prettyName == "Test \"OS\"" && result.record.architecture != nil)
  }

  private var images: String { get throws { try must(["ls", folder("state/images")]) } }

  @Test func importStatusListRemove() throws {
    try makeImage("a")
    let record = try store().status(ImageName("a"))
    #expect(record.layers == ["layer-0"] && record.osID == "test" && record.entries > 10)
    #expect(try describe(folder("a")) == describe(folder("state/images/a/layer-0")))
    let taken = #expect(throws: Failure.self) {
      try store().importDirectory(open(folder("a")), source: "a", as: ImageName("a")) { _ in }
    }
    #expect(taken?.description.contains("already") == true)
    let used = #expect(throws: Failure.self) { try store().remove(ImageName("a")) { _ in "machine 'm'" } }
    #expect(used?.description.contains("machine 'm'") == true)
    try store().remove(ImageName("a")) { _ in nil }
    #expect(try images == "")
    let gone = #expect(throws: Failure.self) { try store().remove(ImageName("a")) { _ in nil } }
    #expect(gone?.kind == .notFound)
  }

  @Test func corruptRecordsHideNothing() throws {
    try makeImage("a")
    try shell("mkdir -p state/images/b state/images/c; echo x > state/images/b/image.record", in: folder.path)
    try shell("mkdir -p state/images/d; ln -s /etc/passwd state/images/d/image.record", in: folder.path)
    try shell("mkdir -p state/images/e; mkfifo state/images/e/image.record", in: folder.path)
    let listed = try store().list()
    #expect(listed.count == 5)
    let broken = listed.filter { if case .broken = $0 { true } else { false } }
    #expect(broken.count == 4)
    for name in ["b", "c", "d", "e"] { try store().remove(ImageName(name)) { _ in nil } }
    #expect(try images == "a\n")
  }

  @Test func failedImportLeavesNothing() throws {
    try must(["mkdir", folder("empty")])
    #expect(throws: Failure.self) {
      try store().importDirectory(open(folder("empty")), source: "empty", as: ImageName("e")) { _ in }
    }
    try makeRoot(folder("a"))
    try shell("cp -a a f; chown 70000 f/etc/passwd", in: folder.path)
    let foreign = #expect(throws: Failure.self) {
      try store().importDirectory(open(folder("f")), source: "f", as: ImageName("f")) { _ in }
    }
    #expect(foreign?.description.contains("f/etc/passwd") == true)
    #expect(throws: Failure.self) {
      try store().importDirectory(open(folder("a")), source: "a", as: ImageName("a")) {
        if $0.entries > 5 { throw Failure("import", "a", "interrupted") }
      }
    }
    let own = #expect(throws: Failure.self) {
      try store().importDirectory(open(folder.path), source: "own", as: ImageName("own")) { _ in }
    }
    #expect(own?.description.contains("inside") == true)
    #expect(try images == "")
  }

  @Test func whatTheDeadLeftGoesAndWhatTheLivingHaveStays() throws {
    _ = try store()
    try shell("cd state/images; mkdir -p a.partial/layer-0/x b.0.removing/layer-0", in: folder.path)
    try shell("mkdir state/images/live.partial", in: folder.path)
    let live = try open(folder("state/images/live.partial"))
    defer { try? live.close() }
    #expect(flock(live.rawValue, LOCK_EX | LOCK_NB) == 0)
    try makeImage("a")
    #expect(try images == "a\nlive.partial\n")
    try must(["mkdir", folder("l")])
    let busy = #expect(throws: Failure.self) {
      try store().importDirectory(open(folder("l")), source: "l", as: ImageName("live")) { _ in }
    }
    #expect(busy?.description.contains("being imported") == true)
  }
}

/// The program as it is called.
@Suite(.enabled(if: isRoot && access(program, X_OK) == 0, "needs root and the built henge-import"))
struct HengeImportTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try makeRoot(folder("a"))
    try shell("tar --format=posix --acls --xattrs --numeric-owner -czf a.tar.gz -C a .; mkdir s", in: folder.path)
  }

  private func call(_ arguments: String...) throws -> Outcome {
    try run([program, "--state", folder("s")] + arguments)
  }

  @Test func exitCodes() throws {
    #expect(try call("tar", folder("a.tar.gz"), "ok").status == 0)
    #expect(try call("tar", folder("a.tar.gz"), "ok").status == 1)
    #expect(try call("tar", folder("none"), "x").status == 1)
    #expect(try call("tar", folder("a"), "x").output.contains("it is a directory"))
    for name in ["", "..", "-rf", "a\nb", String(repeating: "x", count: 300)] {
      let outcome = try call("tar", folder("a.tar.gz"), "--", name)
      #expect(outcome.status == 2 && outcome.isClear, "\(outcome.output)")
    }
    #expect(try call("tar").status == 2)
    #expect(try call("--nonsense").status == 2)
    #expect(try run([program, "--help"]).status == 0)
    #expect(try must(["ls", folder("s/images")]) == "ok\n")
  }

  @Test func twoAtOnce() throws {
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    defer { try? null.close() }
    let children = try (0..<6).map { _ in
      try spawn([program, "--state", folder("s"), "tar", folder("a.tar.gz"), "x"], output: null.rawValue)
    }
    let results = children.map(wait)
    #expect(results.filter { $0 == 0 }.count == 1, "\(results)")
    #expect(results.allSatisfy { $0 < 2 }, "\(results)")
    #expect(try must(["ls", folder("s/images")]) == "x\n")
  }

  @Test(.timeLimit(.minutes(2)), arguments: [SIGKILL, SIGINT])
  func killedAtAnyPoint(_ signal: Int32) throws {
    // The store's folder is there before: a kill may come before the first import has made it.
    try shell(
      "mkdir s/images; for n in $(seq 400); do echo $n > a/f$n; done; tar -czf b.tar.gz -C a .", in: folder.path)
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    defer { try? null.close() }
    var stopped = 0
    for round in 0..<25 {
      let child = try spawn(
        [program, "--state", folder("s"), "tar", folder("b.tar.gz"), "x\(round)"], output: null.rawValue)
      // The moment is what is tried here.
      usleep(UInt32.random(in: 1000...40000))
      kill(child, signal)
      let status = wait(child)
      if status != 0 { stopped += 1 }
      let names = try run(["ls", folder("s/images")]).output.split(separator: "\n")
      #expect(names.contains("x\(round)") == (status == 0) || signal == SIGKILL)
      if signal == SIGINT { #expect(names.allSatisfy { !$0.hasSuffix(".partial") } || status == 130, "\(names)") }
      for name in names where !name.contains(".") {
        #expect(try describe(folder("s/images/\(name)/layer-0")).contains("f400|f"), "half an image: \(name)")
      }
    }
    #expect(stopped > 2, "the signals came too late to try anything")
    #expect(try call("tar", folder("b.tar.gz"), "last").status == 0)
    #expect(try !must(["ls", folder("s/images")]).contains(".partial"))
  }

  @Test func fullDisk() throws {
    let script = """
      mkdir small; mount -t tmpfs -o size=1m,nr_inodes=300 none small; head -c 3000000 /dev/urandom > a/big
      tar -czf big.tar.gz -C a .; rm a/big; mkdir a/many; for n in $(seq 400); do : > a/many/$n; done
      for arguments in 'tar big.tar.gz' 'tar --max-bytes 99999999 big.tar.gz' 'fs a'; do
        '\(program)' --state "$PWD/small" $arguments x; echo "exit $?"; ls small/images
      done
      """
    let outcome = try run(["unshare", "-m", "bash", "-c", "cd '\(folder.path)'; \(script)"])
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.filter { $0 == "exit 1" }.count == 3 && lines.count == 6, "\(outcome.output)")
    #expect(outcome.isClear && outcome.output.contains("no space left"), "\(outcome.output)")
  }

  @Test func readOnlyState() throws {
    let script = """
      mkdir ro; mount -t tmpfs none ro; mkdir ro/images; mount -o remount,ro ro
      '\(program)' --state "$PWD/ro" tar a.tar.gz x; echo "exit $?"; '\(program)' --state "$PWD/ro/none" fs a x; echo "exit $?"
      """
    let outcome = try run(["unshare", "-m", "bash", "-c", "cd '\(folder.path)'; \(script)"])
    #expect(outcome.output.split(separator: "\n").filter { $0 == "exit 1" }.count == 2, "\(outcome.output)")
    #expect(outcome.output.contains("read-only file system"), "\(outcome.output)")
  }
}
