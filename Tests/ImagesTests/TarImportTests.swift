import Archive
import Images
import Linux
import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "needs root"))
struct TarImportTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try must(["mkdir", folder("out"), folder("outside")])
  }

  private func write(_ bytes: [UInt8]) throws {
    let file = try FileDescriptor.open(
      FilePath(folder("a.tar")), .writeOnly, options: [.create, .truncate], permissions: [.ownerRead, .ownerWrite])
    defer { try? file.close() }
    _ = try file.writeAll(bytes)
  }

  private func clear() throws { try must(["find", folder("out"), "-mindepth", "1", "-delete"]) }

  @discardableResult
  private func unpack(_ options: TarImport.Options = .init(), _ name: String = "a.tar") throws -> TarImport.Summary {
    try TarImport(options: options).run(open(folder(name)), path: name, into: open(folder("out")))
  }

  /// Unpacks an archive that must be refused, and gives the line.
  private func refusal(
    _ options: TarImport.Options = .init(), sourceLocation: SourceLocation = #_sourceLocation,
    _ make: (inout TarBytes) -> Void
  ) throws -> String {
    var tar = TarBytes()
    tar.add("usr/", type: "5", mode: 0o755)
    make(&tar)
    try write(tar.finished)
    try clear()
    let before = try describe(folder("outside"))
    let failure = #expect(throws: Failure.self, sourceLocation: sourceLocation) { try unpack(options) }
    #expect(try describe(folder("outside")) == before, sourceLocation: sourceLocation)
    return failure?.description ?? ""
  }

  @Test(arguments: ["", "z", "J", "j", "-zstd"])
  func roundTrip(_ filter: String) throws {
    try makeRoot(folder("a"))
    let flag = filter.isEmpty ? "" : "-\(filter)"
    try shell(
      "tar --format=posix --xattrs --xattrs-include='user.*' --xattrs-include=security.capability --acls --sparse "
        + "--numeric-owner \(flag) -cf a.tar -C a .", in: folder.path)
    try unpack()
    #expect(try describe(folder("a")) == describe(folder("out")))
    #expect(try must(["stat", "-c", "%b", folder("out/sparse")]) == must(["stat", "-c", "%b", folder("a/sparse")]))
  }

  @Test func libarchivesOwnAttributesAndRawACLs() throws {
    var tar = TarBytes()
    tar.add("usr/", type: "5", mode: 0o755)
    // Base64 of version 2 with CAP_NET_RAW.
    tar.addPax([("LIBARCHIVE.xattr.security.capability", Array("AQAAAgAgAAAAAAAAAAAAAAAAAAA".utf8))])
    tar.add("usr/ping", contents: [1])
    tar.addPax([
      ("SCHILY.xattr.system.posix_acl_default", [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255])
    ])
    tar.add("usr/bad", type: "5")
    try write(tar.finished)
    // A default ACL of one line is none that the kernel takes, and ours is completed first.
    try unpack()
    #expect(try must(["getcap", folder("out/usr/ping")]).contains("cap_net_raw"))
    #expect(try must(["getfacl", folder("out/usr/bad")]).contains("default:user::rwx"))
  }

  @Test func aclsByNameUseTheImagesAccounts() throws {
    var tar = TarBytes()
    tar.addPax([("SCHILY.acl.access", Array("user::rw-,user:alice:r--,group::r--,mask::r--,other::---".utf8))])
    tar.add("file", contents: [1])
    tar.add("etc/passwd", contents: Array("alice:x:4321:1::/:/bin/sh\n".utf8))
    try write(tar.finished)
    try unpack()
    #expect(try must(["getfacl", "-n", folder("out/file")]).contains("user:4321:r--"))
    let line = try refusal {
      $0.addPax([("SCHILY.acl.access", Array("user::rw-,user:nobodyhere:r--,group::r--,mask::r--,other::---".utf8))])
      $0.add("file")
    }
    #expect(line.contains("nobodyhere") && line.contains("file"))
  }

  @Test func entriesInAnyOrder() throws {
    var tar = TarBytes()
    tar.add("./usr/share/x/file", contents: [1, 2])
    tar.add("./usr/", type: "5", mode: 0o750, owner: 7)
    tar.add("./usr/share/x/file", contents: [3])
    tar.add("usr//bin/./hard", type: "1", link: "./usr/share/x/file")
    tar.add("bin", type: "2", link: "usr/bin")
    tar.add("dev/null", type: "3", major: 1)
    try write(tar.finished)
    #expect(try unpack().skippedDevices == 1)
    let tree = try describe(folder("out"))
    #expect(tree.contains("usr|d|750|7|") && tree.contains("usr/bin/hard|f|644|0|0|2"))
    #expect(tree.contains("1000.0000000000"))
    #expect(!tree.contains("null"))
  }

  @Test func namesThatLeadOut() throws {
    for name in ["/etc/x", "../x", "usr/../../x", "usr/..", ".."] {
      let line = try refusal { $0.add(name, contents: [1]) }
      #expect(line.contains("'\(name)'"), "\(line)")
    }
    let line = try refusal { $0.add("a\u{1b}[31m/../x") }
    #expect(!line.contains("\u{1b}"))
  }

  @Test func linksThatLeadOut() throws {
    let outside = folder("outside")
    try shell("echo secret > outside/s", in: folder.path)
    for target in [outside, "../outside"] {
      let line = try refusal {
        $0.add("up", type: "2", link: target)
        $0.add("up/x", contents: [1])
      }
      #expect(line.contains("'up/x'") && line.contains("symbolic link"), "\(line)")
      #expect(try refusal { $0.add("hard", type: "1", link: target + "/s") }.contains("'hard'"))
      let through = try refusal {
        $0.add("up", type: "2", link: target)
        $0.add("hard", type: "1", link: "up/s")
      }
      #expect(through.contains("'hard'"))
    }
    #expect(try refusal { $0.add("h", type: "1", link: "usr/none") }.contains("no earlier entry"))
    #expect(try refusal { $0.add("h", type: "1", link: "h") }.contains("itself"))
    #expect(try refusal { $0.add("h", type: "1", link: "usr") }.contains("folder"))
    #expect(
      try refusal {
        $0.add("usr/x"); $0.add("usr", contents: [1])
      }.contains("not empty"))
    #expect(
      try refusal {
        $0.add("f", contents: [1]); $0.add("f/x")
      }.contains("'f/x'"))
    #expect(
      try refusal {
        $0.add("f", contents: [1]); $0.add("f", type: "5")
      }.contains("something else"))
    // A file over a link takes the link's place and leaves what it means alone.
    var tar = TarBytes()
    try clear()
    tar.add("usr/", type: "5")
    tar.add("planted", type: "2", link: outside + "/s")
    tar.add("planted", contents: Array("mine".utf8))
    try write(tar.finished)
    try unpack()
    #expect(try must(["cat", folder("outside/s")]) == "secret\n")
  }

  @Test func idsAndAttributesOutsideTheRange() throws {
    #expect(try refusal { $0.add("f", owner: 70000) }.contains("70000"))
    let capability: [UInt8] = [1, 0, 0, 3] + [UInt8](repeating: 0, count: 16) + [0, 0, 2, 0]
    #expect(
      try refusal {
        $0.addPax([("SCHILY.xattr.security.capability", capability)])
        $0.add("f")
      }.contains("131072"))
    #expect(
      try refusal {
        $0.addPax([("SCHILY.xattr.security.capability", [1, 2, 3])])
        $0.add("f")
      }.contains("malformed"))
    var options = TarImport.Options()
    options.squashesIDs = true
    var tar = TarBytes()
    tar.add("usr/f", owner: 70000)
    tar.addPax([("SCHILY.xattr.trusted.overlay.redirect", Array("/etc".utf8))])
    tar.add("usr/d", type: "5")
    try write(tar.finished)
    #expect(try unpack(options).skippedAttributes == 1)
    #expect(try must(["stat", "-c", "%u", folder("out/usr/f")]) == "65534\n")
  }

  @Test func bombs() throws {
    var options = TarImport.Options()
    options.maximumEntries = 10
    #expect(try refusal(options) { for n in 0..<10 { $0.add("usr/f\(n)") } }.contains("more than 10 entries"))
    options = TarImport.Options()
    options.maximumBytes = 1000
    #expect(try refusal(options) { $0.add("f", contents: [UInt8](repeating: 1, count: 1001)) }.contains("1000 bytes"))
    let deep = String(repeating: "d/", count: 2000)
    #expect(
      try refusal {
        $0.addPax([("path", Array(deep.utf8))])
        $0.add("x", type: "5")
      }.contains("too deep"))
    let long = String(repeating: "n", count: 300)
    #expect(
      try refusal {
        $0.addPax([("path", Array(long.utf8))])
        $0.add("x")
      }.contains("255"))
  }

  @Test func cutOffAndEmpty() throws {
    #expect(try refusal { $0.add("f", contents: [1], size: 100000) }.contains("cut off"))
    var tar = TarBytes()
    tar.add("usr/f", contents: [UInt8](repeating: 7, count: 1500))
    try write(tar.bytes)
    let noMark = #expect(throws: Failure.self) { try unpack() }
    #expect(noMark?.description.contains("cut off") == true)
    try write(TarBytes().finished)
    let empty = #expect(throws: Failure.self) { try unpack() }
    #expect(empty?.description.contains("no entries") == true)
    tar = TarBytes()
    tar.add("system/usr/f")
    try clear()
    try write(tar.finished)
    let folderDeep = #expect(throws: Failure.self) { try unpack() }
    #expect(folderDeep?.description.contains("one folder too deep") == true)
    try write([UInt8]("no archive at all".utf8))
    let other = #expect(throws: Failure.self) { try unpack() }
    #expect(other?.description.contains("no tar archive") == true)
  }

  @Test func damagedArchivesNeverCrash() throws {
    try makeRoot(folder("a"))
    try shell("tar --format=posix --acls --xattrs -cf good.tar -C a etc acl deep", in: folder.path)
    let file = try open(folder("good.tar"))
    var good = [UInt8](repeating: 0, count: 1 << 20)
    let count = try good.withUnsafeMutableBytes { try file.read(into: $0) }
    good = Array(good[..<count])
    var options = TarImport.Options()
    options.maximumBytes = 8 << 20
    for _ in 0..<200 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...20) {
        bytes[Int.random(in: 0..<bytes.count)] = [0, 0x2f, 0x2e, 0x37, 0xff].randomElement() ?? 0
      }
      try write(bytes)
      _ = try? unpack(options)
    }
    #expect(try describe(folder("outside")) != "")
  }
}
