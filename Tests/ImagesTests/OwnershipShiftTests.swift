import Glibc
import Images
import Linux
import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "needs root"))
struct OwnershipShiftTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try must(["mkdir", folder("state")])
  }

  private func shift(_ from: UInt32, _ to: UInt32) throws -> OwnershipShift.Summary {
    try OwnershipShift.run(
      open(folder("a")), path: "a", shift: IDShift(from: from, to: to), state: open(folder("state")))
  }

  @Test func thereAndBackIsTheSame() throws {
    try makeRoot(folder("a"))
    let before = try describe(folder("a"))
    _ = try shift(0, 300000)
    let shifted = try describe(folder("a"))
    #expect(shifted.contains("usr/bin/suid|f|6755|300000|300000|2"))
    #expect(shifted.contains("usr/bin/sgid|f|2755|300000|300042"))
    #expect(shifted.contains("dangling|l|777|300000"))
    #expect(try must(["getcap", folder("a/usr/bin/cap")]).contains("cap_net_raw"))
    let list = try must(["getfacl", "-n", folder("a/acl"), folder("a/acl/file")])
    #expect(list.contains("default:user:300033:rwx") && list.contains("group:300044:r--"))
    #expect(try must(["ls", folder("state")]) == "")
    #expect(try shift(0, 300000).changed == 0)
    _ = try shift(300000, 0)
    #expect(try describe(folder("a")) == before)
  }

  @Test func foreignOwnerIsNamed() throws {
    try shell("mkdir a; touch a/x; chown 99999 a/x", in: folder.path)
    let failure = #expect(throws: Failure.self) { try shift(0, 300000) }
    #expect(failure?.description.contains("a/x") == true)
  }

  @Test func anotherTreesJournalIsNotTaken() throws {
    try makeRoot(folder("a"))
    try shell("echo rubbish > state/ownership.journal", in: folder.path)
    _ = try shift(0, 300000)
    try must(["chattr", "+i", folder("a/usr/bin/true")])
    defer { _ = try? run(["chattr", "-i", folder("a/usr/bin/true")]) }
    let failure = #expect(throws: Failure.self) { try shift(300000, 0) }
    #expect(failure?.description.contains("immutable") == true)
    try must(["mkdir", folder("b")])
    #expect(throws: Failure.self) {
      try OwnershipShift.run(
        open(folder("b")), path: "b", shift: IDShift(from: 300000, to: 0), state: open(folder("state")))
    }
  }

  /// A change of owner that was never followed by anything: what a kill between two calls leaves.
  @Test func killedBetweenChownAndRestoring() throws {
    try makeRoot(folder("a"))
    let before = try describe(folder("a"))
    // The top is last, so this fails with everything else done and the journal still there.
    try shell("chown 99999 a", in: folder.path)
    #expect(throws: Failure.self) { try shift(0, 300000) }
    #expect(try must(["stat", "-c", "%s", folder("state/ownership.journal")]) != "0\n")
    try shell("chown 0 a; chmod 0755 a/usr/bin/suid; setcap -r a/usr/bin/cap", in: folder.path)
    // Cut off within a record, as a kill or a full disk does.
    try shell("printf '\\x40\\0\\0\\0\\0\\0\\0\\0abc' >> state/ownership.journal", in: folder.path)
    #expect(try shift(0, 300000).restored == 2)
    _ = try shift(300000, 0)
    #expect(try describe(folder("a")) == before)
  }

  @Test(.timeLimit(.minutes(2))) func killedAtAnyPoint() throws {
    try makeRoot(folder("a"))
    try shell(
      """
      for d in $(seq 60); do mkdir a/m$d; for f in $(seq 20); do echo $d$f > a/m$d/f$f; done
      cp /bin/true a/m$d/s; chmod 6755 a/m$d/s; cp /bin/true a/m$d/c; setcap cap_chown=ep a/m$d/c
      ln a/m$d/s a/m$d/s2; cp /bin/true a/m$d/acl; setfacl -m u:12:rw a/m$d/acl; done
      """, in: folder.path)
    let before = try describe(folder("a"))
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    defer { try? null.close() }
    var killed = 0
    for round in 0..<40 {
      let (from, to) = round % 8 < 4 ? ("0", "300000") : ("300000", "0")
      let child = try spawn([program, "shift", folder("a"), from, to, folder("state")], output: null.rawValue)
      // The moment is what is tried here: from before its first call to after its last.
      usleep(UInt32.random(in: 500...25000))
      kill(child, SIGKILL)
      if wait(child) == 128 + SIGKILL { killed += 1 }
    }
    #expect(killed > 3, "the kills came too late to try anything")
    _ = try shift(300000, 0)
    #expect(try describe(folder("a")) == before)
  }
}
