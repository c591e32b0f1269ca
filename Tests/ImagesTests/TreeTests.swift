import Glibc
import Images
import Linux
import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "needs root"))
struct TreeTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func makeDeep(_ path: String, _ depth: Int) throws {
    try must([
      "python3", "-c",
      """
      import os,sys
      os.mkdir(sys.argv[1]); d=os.open(sys.argv[1],os.O_RDONLY)
      for i in range(int(sys.argv[2])):
          os.mkdir('d',dir_fd=d); n=os.open('d',os.O_RDONLY,dir_fd=d); os.close(d); d=n
      os.open('leaf',os.O_CREAT,dir_fd=d)
      """, path, String(depth),
    ])
  }

  @Test func copyKeepsEverything() throws {
    try makeRoot(folder("a"))
    try shell("mknod a/white c 0 0; mknod a/null c 1 3; mkdir b; setfacl -d -m u:9:rwx b", in: folder.path)
    var copy = TreeCopy()
    copy.devices = .keep
    let summary = try copy.copy(from: open(folder("a")), to: open(folder("b")), sourcePath: "a")
    #expect(try describe(folder("a")) == describe(folder("b")))
    #expect(summary.bytes < 1 << 20, "holes were filled")
    #expect(try must(["stat", "-c", "%b", folder("b/sparse")]) == must(["stat", "-c", "%b", folder("a/sparse")]))
  }

  @Test func copyShiftsAndShiftBackIsTheSame() throws {
    try makeRoot(folder("a"))
    try shell("mkdir b c", in: folder.path)
    var copy = TreeCopy()
    copy.shift = try IDShift(from: 0, to: 200000)
    _ = try copy.copy(from: open(folder("a")), to: open(folder("b")), sourcePath: "a")
    let shifted = try describe(folder("b"))
    #expect(shifted.contains("acl/file|f|664|200000|200000"))
    #expect(shifted != (try describe(folder("a"))))
    copy.shift = try IDShift(from: 200000, to: 0)
    _ = try copy.copy(from: open(folder("b")), to: open(folder("c")), sourcePath: "b")
    #expect(try describe(folder("a")) == describe(folder("c")))
  }

  @Test func foreignOwnerIsNamedOrSquashed() throws {
    try shell("mkdir a b c; touch a/x; chown 99999 a/x", in: folder.path)
    var copy = TreeCopy()
    copy.shift = try IDShift(from: 0, to: 200000)
    let failure = #expect(throws: Failure.self) {
      try copy.copy(from: open(folder("a")), to: open(folder("b")), sourcePath: "a")
    }
    #expect(failure?.description.contains("a/x") == true)
    copy.shift?.foreign = .squash
    _ = try copy.copy(from: open(folder("a")), to: open(folder("c")), sourcePath: "a")
    #expect(try must(["stat", "-c", "%u", folder("c/x")]) == "265534\n")
  }

  @Test func skipsSocketsAndDevices() throws {
    try shell(
      "mkdir a b; mknod a/null c 1 3; python3 -c \"import socket;socket.socket(socket.AF_UNIX).bind('a/s')\"",
      in: folder.path)
    var copy = TreeCopy()
    let summary = try copy.copy(from: open(folder("a")), to: open(folder("b")), sourcePath: "a")
    #expect(summary.skippedDevices == 1 && summary.skippedSockets == 1 && summary.entries == 0)
  }

  @Test func deepTreesAreCopiedShiftedAndRemoved() throws {
    try makeDeep(folder("a"), 5000)
    try shell("mkdir b state", in: folder.path)
    var copy = TreeCopy()
    let summary = try copy.copy(from: open(folder("a")), to: open(folder("b")), sourcePath: "a")
    #expect(summary.entries == 5001)
    let shifted = try OwnershipShift.run(
      open(folder("b")), path: "b", shift: IDShift(from: 0, to: 200000), state: open(folder("state")))
    #expect(shifted.changed == 5002)
    for name in ["a", "b"] { try TreeRemove.remove(name, in: open(folder.path), path: name) }
    #expect(try must(["ls", folder.path]) == "state\n")
  }

  @Test func removeFollowsNoLinkAndNamesImmutable() throws {
    try shell(
      "mkdir -p keep a/b; touch keep/x; ln -s ../keep a/l; touch a/b/stuck; chattr +i a/b/stuck", in: folder.path)
    defer { _ = try? run(["chattr", "-i", folder("a/b/stuck")]) }
    let failure = #expect(throws: Failure.self) {
      try TreeRemove.remove("a", in: open(folder.path), path: "a")
    }
    #expect(failure?.description.contains("a/b/stuck") == true)
    #expect(failure?.description.contains("immutable") == true)
    try must(["chattr", "-i", folder("a/b/stuck")])
    try TreeRemove.remove("a", in: open(folder.path), path: "a")
    try TreeRemove.remove("a", in: open(folder.path), path: "a")
    #expect(try must(["ls", folder.path, folder("keep")]).contains("x\n"))
  }

  @Test func neitherCopyNorRemoveCrossesAMount() throws {
    try shell("mkdir -p a/m b; touch a/f", in: folder.path)
    let script = """
      mount -t tmpfs none a/m; touch a/m/inside
      '\(program)' --state "$PWD/s" fs a img || exit 3; test -d s/images/img/layer-0/m && ! test -e s/images/img/layer-0/m/inside
      """
    let outcome = try run(["unshare", "-m", "bash", "-c", "cd \(folder.path); mkdir -p a/usr; \(script)"])
    #expect(outcome.status == 0, "\(outcome.output)")
    #expect(outcome.output.contains("1 mounts"))
  }

  /// Somebody swaps a folder for a link to a folder outside, all the time.
  @Test(.timeLimit(.minutes(2))) func hostileSwapsNeverLeadOut() throws {
    try shell(
      "mkdir -p outside a/x/d state; for n in $(seq 50); do echo > outside/f$n; echo > a/x/d/f$n; done", in: folder.path
    )
    try shell("ln -s ../../outside a/x/l", in: folder.path)
    let before = try describe(folder("outside"))
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    defer { try? null.close() }
    let swapper = try spawn(
      [
        "python3", "-c",
        """
        import os,sys
        os.chdir(sys.argv[1])
        while os.path.exists('..'):
            for a, b in (('d', 't'), ('l', 'd'), ('d', 'l'), ('t', 'd')):
                try: os.rename(a, b)
                except OSError: pass
        """, folder("a/x"),
      ], output: null.rawValue)
    defer {
      kill(swapper, SIGKILL)
      _ = wait(swapper)
    }
    for round in 0..<200 {
      let (from, to): (UInt32, UInt32) = round % 2 == 0 ? (0, 300000) : (300000, 0)
      _ = try? OwnershipShift.run(
        open(folder("a")), path: "a", shift: IDShift(from: from, to: to), state: open(folder("state")))
      try must(["mkdir", folder("b\(round)")])
      var copy = TreeCopy()
      _ = try? copy.copy(from: open(folder("a")), to: open(folder("b\(round)")), sourcePath: "a")
      let copied = try must(["find", folder("b\(round)"), "-type", "d", "-name", "l"])
      #expect(copied == "", "a link was copied as the folder that it means")
    }
    try? TreeRemove.remove("a", in: open(folder.path), path: "a")
    #expect(try describe(folder("outside")) == before)
  }
}
