import CLinux
import Glibc
import Linux
import SystemPackage
import Testing

@testable import TreeStream

/// A folder of the test's own.
private func withFolder(_ body: (String) throws -> Void) throws {
  var template = Array("/var/tmp/henge-test-stream-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw Failure("make", "a folder", errno: Errno(rawValue: errno)) }
  let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer {
    let left = ["rm", "-rf", folder]
    _ = try? ProcessRequest(.path("/bin/rm"), arguments: left).start().process.reap(wait: true)
  }
  try body(folder)
}

private func put(_ path: String, _ text: String, mode: UInt32 = 0o644) throws {
  try Descriptor.open(path, [.write, .create, .truncate], mode: mode).writeAll(Array(text.utf8), subject: path)
}

private func text(_ path: String) throws -> String {
  String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
}

private func names(_ path: String) throws -> [String] {
  try Descriptor.open(path, .directory).names().sorted()
}

/// Sets an extended attribute.
private func set(_ path: String, _ name: String, _ value: [UInt8]) throws {
  let file = try Descriptor.open(path, .readWrite)
  #expect(clinux_open_setxattr(file.raw, name, value, value.count) == 0)
}

/// How long an extended attribute is; negative when there is none.
private func length(_ path: String, _ name: String) throws -> Int {
  let file = try Descriptor.open(path)
  return withExtendedLifetime(file) { clinux_open_getxattr(file.raw, name, nil, 0) }
}

/// Sends trees into memory.
private func stream(_ paths: [String], _ policy: TreePolicy = TreePolicy()) throws -> [UInt8] {
  var bytes: [UInt8] = []
  let sender = TreeSender(try TreeWriter { bytes += $0 }, policy: policy)
  for path in paths { try sender.send(path, on: .host) }
  _ = try sender.end()
  return bytes
}

/// Receives a stream from memory.
@discardableResult
private func receive(
  _ bytes: [UInt8], _ path: String, _ options: Destination.Options = Destination.Options(),
  _ policy: TreePolicy = TreePolicy()
) throws -> TreePolicy {
  var rest = bytes[...]
  let receiver = TreeReceiver(
    TreeReader { buffer in
      let taken = rest.prefix(min(1000, buffer.count))
      rest = rest.dropFirst(taken.count)
      UnsafeMutableRawBufferPointer(rebasing: buffer[..<taken.count]).copyBytes(from: taken)
      return taken.count
    }, policy: policy)
  _ = try Staging.receive(
    into: try Destination(path, options: options, on: .host), receiver, options: options)
  return receiver.policy
}

private var replacing: Destination.Options {
  var options = Destination.Options()
  options.replaces = true
  return options
}

@Suite("A tree through a stream", .enabled(if: geteuid() == 0, "needs root: it makes files of others"))
struct TreeCopyTests {
  @Test func everythingComesAlong() throws {
    try withFolder { folder in
      let source = "\(folder)/source"
      for path in [source, "\(source)/deep", "\(source)/deep/er", "\(folder)/to"] { mkdir(path, 0o755) }
      try put("\(source)/file", "text")
      try put("\(source)/deep/suid", "#!")
      chown("\(source)/deep/suid", 1000, 1001)
      chmod("\(source)/deep/suid", 0o4751)
      link("\(source)/file", "\(source)/deep/er/again")
      symlink("/etc/passwd", "\(source)/link")
      lchown("\(source)/link", 7, 8)
      mkfifo("\(source)/pipe", 0o640)
      chmod("\(source)/pipe", 0o640)
      try set("\(source)/file", "user.colour", [1, 0, 3])
      chown("\(source)/deep", 5, 6)
      chmod("\(source)/deep", 0o3770)
      let sparse = try Descriptor.open("\(source)/sparse", [.write, .create], mode: 0o600)
      ftruncate(sparse.raw, 64 << 20)
      pwrite(sparse.raw, "x", 1, 32 << 20)
      utimensat(AT_FDCWD, "\(source)/deep", [timespec(tv_sec: 5, tv_nsec: 6), timespec(tv_sec: 77, tv_nsec: 88)], 0)

      let bytes = try stream([source])
      #expect(bytes.count < 1 << 20, "holes do not travel")
      try receive(bytes, "\(folder)/to")
      let copy = "\(folder)/to/source"
      #expect(try names(copy) == ["deep", "file", "link", "pipe", "sparse"])
      #expect(try names("\(folder)/to") == ["source"])
      #expect(try text("\(copy)/deep/er/again") == "text")
      let top = try Descriptor.open(copy, .directory)
      let deep = try Descriptor.open("\(copy)/deep", .directory)
      let suid = try #require(try deep.status(of: "suid"))
      #expect(suid.mode == 0o4751 && suid.uid == 1000 && suid.gid == 1001)
      #expect(try top.status(of: "file")?.inode == Descriptor.open("\(copy)/deep/er").status(of: "again")?.inode)
      #expect(top.linkTarget("link") == "/etc/passwd")
      #expect(try top.status(of: "link")?.gid == 8)
      #expect(try top.status(of: "pipe")?.kind == .fifo)
      #expect(try top.status(of: "pipe")?.mode == 0o640)
      #expect(try deep.status().mode == 0o3770)
      #expect(try deep.status().gid == 6)
      var status = stat()
      stat("\(copy)/sparse", &status)
      #expect(status.st_size == 64 << 20 && status.st_blocks < 1000)
      stat("\(copy)/deep", &status)
      #expect(status.st_mtim.tv_sec == 77 && status.st_mtim.tv_nsec == 88)
      #expect(try length("\(copy)/file", "user.colour") == 3)
    }
  }

  @Test func whatIsThereStaysUnlessAskedFor() throws {
    try withFolder { folder in
      for path in ["\(folder)/a", "\(folder)/to", "\(folder)/to/a", "\(folder)/to/a/b"] { mkdir(path, 0o755) }
      try put("\(folder)/a/one", "new")
      try put("\(folder)/a/two", "new")
      try put("\(folder)/to/a/one", "old")
      let bytes = try stream(["\(folder)/a"])
      #expect(throws: Failure.self) { try receive(bytes, "\(folder)/to") }
      #expect(try names("\(folder)/to") == ["a"])
      #expect(try text("\(folder)/to/a/one") == "old")
      try receive(bytes, "\(folder)/to", replacing)
      #expect(try names("\(folder)/to/a") == ["b", "one", "two"])
      #expect(try text("\(folder)/to/a/one") == "new")
      #expect(try names("\(folder)/to") == ["a"])
      // A folder in the way of a file: what was put in place before it comes out again.
      try put("\(folder)/a/b", "a file")
      try put("\(folder)/a/a-first", "new")
      try put("\(folder)/a/one", "newer")
      let clash = try stream(["\(folder)/a"])
      #expect(throws: Failure.self) { try receive(clash, "\(folder)/to", replacing) }
      #expect(try names("\(folder)/to/a") == ["b", "one", "two"])
      #expect(try text("\(folder)/to/a/one") == "new")
      #expect(try names("\(folder)/to") == ["a"])
    }
  }

  @Test func aCutOffOrDamagedStreamLeavesNothing() throws {
    try withFolder { folder in
      for path in ["\(folder)/a", "\(folder)/a/b", "\(folder)/to"] { mkdir(path, 0o755) }
      for number in 0..<5 { try put("\(folder)/a/b/\(number)", "text \(number)") }
      try put("\(folder)/beside", "beside")
      let bytes = try stream(["\(folder)/a"])
      for end in stride(from: 0, to: bytes.count, by: 3) {
        #expect(throws: (any Error).self) { try receive(Array(bytes[..<end]), "\(folder)/to") }
        #expect(try names("\(folder)/to") == [])
        var damaged = bytes
        damaged[end] ^= 0x55
        if (try? receive(damaged, "\(folder)/to")) == nil {
          #expect(try names("\(folder)/to") == [])
        } else {
          _ = try ProcessRequest(.path("/bin/sh"), arguments: ["sh", "-c", "rm -rf \(folder)/to/*"]).start().process
            .reap(wait: true)
        }
      }
      #expect(try names(folder) == ["a", "beside", "to"])
    }
  }

  @Test func destinationsAreAsWithCp() throws {
    try withFolder { folder in
      try put("\(folder)/file", "text")
      mkdir("\(folder)/to", 0o755)
      let bytes = try stream(["\(folder)/file"])
      try receive(bytes, "\(folder)/to/other")
      #expect(try text("\(folder)/to/other") == "text")
      try receive(bytes, "\(folder)/to")
      #expect(try text("\(folder)/to/file") == "text")
      symlink("to", "\(folder)/link")
      #expect(throws: Failure.self) { try receive(bytes, "\(folder)/link") }
      for path in ["\(folder)/no/such", "\(folder)/no/", "\(folder)/file/x", "\(folder)/file/", "/.."] {
        #expect(throws: Failure.self, "\(path)") { try receive(bytes, path == "/.." ? "\(folder)/no/.." : path) }
      }
      var making = Destination.Options()
      making.makesFolders = true
      try receive(bytes, "\(folder)/new/er/name", making)
      #expect(try text("\(folder)/new/er/name") == "text")
      // What was made for a copy that then failed is gone.
      #expect(throws: (any Error).self) { try receive(Array(bytes.dropLast()), "\(folder)/x/y/z", making) }
      #expect(try names(folder) == ["file", "link", "new", "to"])
      var exact = Destination.Options()
      exact.isExact = true
      #expect(throws: Failure.self) { try receive(bytes, "\(folder)/to", exact) }
      // A link at the end is replaced and not followed.
      symlink("\(folder)/file", "\(folder)/to/link")
      exact.replaces = true
      try put("\(folder)/source", "new")
      try receive(try stream(["\(folder)/source"]), "\(folder)/to/link", exact)
      #expect(try text("\(folder)/file") == "text")
      #expect(try text("\(folder)/to/link") == "new")
    }
  }

  @Test func whatAHostMustNotTakeIsLeft() throws {
    try withFolder { folder in
      mkdir("\(folder)/a", 0o755)
      try put("\(folder)/a/suid", "x")
      chmod("\(folder)/a/suid", 0o6755)
      let capability: [UInt8] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      try set("\(folder)/a/suid", "security.capability", capability)
      chmod("\(folder)/a", 0o2755)
      let bytes = try stream(["\(folder)/a"])
      var policy = TreePolicy()
      policy.keepsPrivileges = false
      mkdir("\(folder)/to", 0o755)
      let after = try receive(bytes, "\(folder)/to", Destination.Options(), policy)
      #expect(after.notes.count == 2)
      let copy = try Descriptor.open("\(folder)/to/a", .directory)
      #expect(try copy.status(of: "suid")?.mode == 0o755)
      #expect(try copy.status().mode == 0o2755, "on a folder it is no privilege")
      #expect(try length("\(folder)/to/a/suid", "security.capability") < 0)
      // Ids that no machine has, from a stream that lies.
      for (owner, group) in [(65536, 0), (0, UInt32.max)] as [(UInt32, UInt32)] {
        let lie = try encode([
          .fifo(name: [120], TreeMetadata(permissions: 0, owner: owner, group: group, seconds: 0, nanoseconds: 0)),
          .end(entries: 1, bytes: 0),
        ])
        #expect(throws: Failure.self) { try receive(lie, "\(folder)/to") }
        policy.squashesIDs = true
        try receive(lie, "\(folder)/to", replacing, policy)
        #expect(try Descriptor.open("\(folder)/to").status(of: "x")?.uid ?? .max <= 65534)
      }
    }
  }

  @Test func linksInAStreamLeadNowhere() throws {
    try withFolder { folder in
      mkdir("\(folder)/to", 0o755)
      try put("\(folder)/secret", "secret")
      let plain = TreeMetadata(permissions: 0o644, owner: 0, group: 0, seconds: 0, nanoseconds: 0)
      let link = TreeRecord.symbolicLink(name: [108], plain, target: Array(folder.utf8))
      // Through a link that came before: into it, by a hard link behind it, over it.
      let streams: [[TreeRecord]] = [
        [link, .directory(name: [108], nil), .file(name: [120], plain, size: 0, extents: []), .leave],
        [link, .hardLink(name: [120], target: [[108], Array("secret".utf8)])],
        [.hardLink(name: [120], target: [[110, 111]])], [.leave], [.leave, .leave], [.data(count: 1)],
        [.directory(name: [100], nil)],
      ]
      for records in streams {
        let bytes = try encode(records + [.end(entries: UInt64(records.count), bytes: 0)])
        #expect(throws: Failure.self) { try receive(bytes, "\(folder)/to") }
        #expect(try names("\(folder)/to") == [])
      }
      #expect(try names(folder) == ["secret", "to"])
    }
  }

  @Test func whatAKilledCopyLeftIsSwept() throws {
    try withFolder { folder in
      mkdir("\(folder)/.henge-copy-1", 0o700)
      try put("\(folder)/.henge-copy-1/half", "half")
      // One whose maker lives, and one that somebody else made.
      mkdir("\(folder)/.henge-copy-2", 0o700)
      let living = try Descriptor.open("\(folder)/.henge-copy-2", .directory)
      #expect(try living.lock())
      mkdir("\(folder)/.henge-copy-3", 0o755)
      try put("\(folder)/file", "text")
      try receive(try stream(["\(folder)/file"]), "\(folder)/copy")
      #expect(try names(folder) == [".henge-copy-2", ".henge-copy-3", "copy", "file"])
    }
  }

  @Test func specialFilesAreRefusedOrLeftOut() throws {
    try withFolder { folder in
      mkdir("\(folder)/a", 0o755)
      let socket = try Descriptor.open("\(folder)/a", .directory).bindSocket("socket", datagram: true)
      var policy = TreePolicy()
      #expect(throws: Failure.self) { try stream(["\(folder)/a"], policy) }
      #expect(throws: Failure.self) { try stream(["/dev/null"], policy) }
      policy.skipsSpecial = true
      mkdir("\(folder)/to", 0o755)
      try receive(try stream(["\(folder)/a"], policy), "\(folder)/to")
      #expect(try names("\(folder)/to/a") == [])
      withExtendedLifetime(socket) {}
      // A file that has contents and no size.
      try receive(try stream(["/proc/self/status"]), "\(folder)/to")
      #expect(try text("\(folder)/to/status").contains("Name:"))
    }
  }
}

private func encode(_ records: [TreeRecord]) throws -> [UInt8] {
  var bytes: [UInt8] = []
  let writer = try TreeWriter { bytes += $0 }
  for record in records { try writer.write(record) }
  try writer.flush()
  return bytes
}
