import CLinux
import Images
import Linux

/// Makes one entry after the other, and at the end what must wait until everything is there.
final class TarUnpacker {
  private let tree: TarTree
  private let archive: String
  private let options: TarImport.Options
  private let maximumBytes: UInt64
  private let progress: (TarImport.Summary) throws -> Void
  private(set) var summary = TarImport.Summary()
  private var deferred: [Deferred] = []

  /// What is set when all entries are there: the time of a folder, which making files in it changes; an ACL whose names
  /// are in the account files, and a folder's default ACL, which new files would inherit.
  private struct Deferred {
    var path: EntryPath
    var isDirectory: Bool
    var seconds: Int64
    var nanoseconds: UInt32
    var permissions: UInt32
    var accessACL: [TarEntry.ACLLine]
    var defaultACL: [TarEntry.ACLLine]
  }

  init(
    root: Int32, archive: String, options: TarImport.Options, maximumBytes: UInt64,
    progress: @escaping (TarImport.Summary) throws -> Void
  ) {
    tree = TarTree(root: root)
    self.archive = archive
    self.options = options
    self.maximumBytes = maximumBytes
    self.progress = progress
  }

  /// Makes an entry.
  func unpack(_ read: TarEntry, _ reader: TarReader) throws {
    let fail = { (reason: String) in self.failure(read.path, reason) }
    let entry = try takingRawACLs(read, fail)
    if summary.entries >= options.maximumEntries {
      throw fail("the archive has more than \(options.maximumEntries) entries")
    }
    let path: EntryPath
    do {
      path = try EntryPath(entry.path, maximumDepth: options.maximumDepth)
    } catch {
      throw fail(error.reason)
    }
    summary.packedBytes = reader.packedBytes
    if let target = entry.hardLink {
      try link(path, to: target, fail)
    } else {
      switch entry.kind {
      case FileKind.directory: try makeDirectory(entry, path, fail)
      case _ where path.components.isEmpty: throw fail("it is the root, and no folder")
      case FileKind.regular: try makeFile(entry, path, reader, fail)
      case FileKind.symbolicLink: try makeSymbolicLink(entry, path, fail)
      case FileKind.fifo: try makeNode(entry, path, fail)
      case FileKind.characterDevice, FileKind.blockDevice:
        if !options.keepsDevices {
          summary.skippedDevices += 1
          break
        }
        try makeNode(entry, path, fail)
      default: throw fail("it is of a kind that no root file system has")
      }
    }
    summary.entries += 1
    try progress(summary)
  }

  /// Sets what had to wait.
  func finish() throws {
    let names = AccountNames(root: tree.root)
    for item in deferred {
      let path = item.path.whole
      let shown = item.path.components.joined(separator: [47])
      let fail = { (reason: String) in self.failure(Array(shown), reason) }
      let opened = Beneath.tryOpen(tree.root, path, CLINUX_O_PATH)
      // A later entry took its place.
      if opened < 0 { continue }
      let file = OwnedDescriptor(opened)
      let stat = try Calls.stat(file.raw, Calls.itself, path: archive)
      if stat.isDirectory != item.isDirectory || stat.isSymbolicLink { continue }
      try setACL(file.raw, AttributeIDs.accessACL, item.accessACL, item.permissions, names, fail)
      if item.isDirectory {
        try setACL(file.raw, AttributeIDs.defaultACL, item.defaultACL, item.permissions, names, fail)
      }
      try check(clinux_utimensat(file.raw, Calls.itself, item.seconds, item.nanoseconds), fail)
    }
  }

  // MARK: kinds

  private func makeDirectory(_ entry: TarEntry, _ path: EntryPath, _ fail: (String) -> Failure) throws {
    let file: OwnedDescriptor
    if path.components.isEmpty {
      file = OwnedDescriptor(try check(clinux_dup(tree.root), fail))
    } else {
      let parent = try tree.parent(path, make: true, fail: fail)
      let made = clinux_mkdirat(parent, path.name, 0o700)
      if made != -17 { try check(made, fail) }
      let opened = clinux_openat(parent, path.name, CLINUX_O_PATH | CLINUX_O_DIRECTORY, 0)
      if opened == -20 || opened == -40 { throw fail("an earlier entry made something else than a folder of it") }
      file = OwnedDescriptor(try check(opened, fail))
    }
    try setMetadata(entry, file.raw, fail)
    deferred.append(deferral(entry, path))
  }

  private func makeFile(
    _ entry: TarEntry, _ path: EntryPath, _ reader: TarReader, _ fail: (String) -> Failure
  ) throws {
    // Holes cost nothing here, but whoever sets a limit expects nothing larger to come out again, of a copy or a backup.
    if let limit = options.maximumBytes, limit - summary.bytes < UInt64(clamping: entry.size) {
      throw fail("the archive unpacks to more than \(limit) bytes, which is the limit")
    }
    let parent = try tree.parent(path, make: true, fail: fail)
    let name = path.name
    // O_WRONLY | O_CREAT | O_EXCL
    let file = OwnedDescriptor(
      try tree.create(parent, name, fail: fail) { clinux_openat(parent, name, 0o1 | 0o100 | 0o200, 0o600) })
    var end: Int64 = 0
    try reader.forEachBlock { bytes, offset in
      let (next, overflow) = offset.addingReportingOverflow(Int64(bytes.count))
      if offset < end || overflow || next > entry.size { throw fail("its contents do not fit its size") }
      if maximumBytes - summary.bytes < UInt64(bytes.count) {
        throw fail("the archive unpacks to more than \(maximumBytes) bytes, which is the limit or what is free")
      }
      var done = 0
      while done < bytes.count {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
        done += Int(
          try check(clinux_pwrite(file.raw, rest.baseAddress, rest.count, offset + Int64(done)), fail))
      }
      end = next
      summary.bytes += UInt64(bytes.count)
      summary.packedBytes = reader.packedBytes
      try progress(summary)
    }
    if end < entry.size { try check(clinux_ftruncate(file.raw, entry.size), fail) }
    try setMetadata(entry, file.raw, fail)
    try deferNames(entry, path, file.raw, fail)
    try check(clinux_utimensat(file.raw, Calls.itself, entry.seconds, entry.nanoseconds), fail)
  }

  private func makeSymbolicLink(_ entry: TarEntry, _ path: EntryPath, _ fail: (String) -> Failure) throws {
    if entry.symbolicLink.isEmpty { throw fail("it is a symbolic link to nothing") }
    let parent = try tree.parent(path, make: true, fail: fail)
    let target = entry.symbolicLink.map { CChar(bitPattern: $0) } + [0]
    let name = path.name
    _ = try tree.create(parent, name, fail: fail) { clinux_symlinkat(target, parent, name) }
    summary.skippedAttributes += UInt64(entry.attributes.count)
    try check(
      clinux_fchownat(parent, name, try id(entry.owner, fail), try id(entry.group, fail)), fail)
    try check(clinux_utimensat(parent, name, entry.seconds, entry.nanoseconds), fail)
  }

  private func makeNode(_ entry: TarEntry, _ path: EntryPath, _ fail: (String) -> Failure) throws {
    let parent = try tree.parent(path, make: true, fail: fail)
    let name = path.name
    _ = try tree.create(parent, name, fail: fail) {
      clinux_mknodat(parent, name, entry.kind | 0o600, entry.nodeMajor, entry.nodeMinor)
    }
    let file = OwnedDescriptor(try check(clinux_openat(parent, name, CLINUX_O_PATH, 0), fail))
    try setMetadata(entry, file.raw, fail)
    try check(clinux_utimensat(file.raw, Calls.itself, entry.seconds, entry.nanoseconds), fail)
  }

  private func link(_ path: EntryPath, to target: [UInt8], _ fail: (String) -> Failure) throws {
    let shown = printable(String(decoding: target, as: UTF8.self))
    let source: EntryPath
    do {
      source = try EntryPath(target, maximumDepth: options.maximumDepth)
    } catch {
      throw fail("it is a hard link to '\(shown)', which is not taken: \(error.reason)")
    }
    if path.components.isEmpty { throw fail("it is the root, and no folder") }
    if source == path { throw fail("it is a hard link to itself") }
    // Held, so that making folders for the new name, or removing what is there, cannot change what it means.
    let opened = Beneath.tryOpen(tree.root, source.whole, CLINUX_O_PATH)
    if opened < 0 {
      throw fail(
        "it is a hard link to '\(shown)', which no earlier entry made"
          + (opened == -40 || opened == -20 ? ", or which lies behind a symbolic link" : ""))
    }
    let file = OwnedDescriptor(opened)
    let stat = try Calls.stat(file.raw, Calls.itself, path: archive)
    if stat.isDirectory { throw fail("it is a hard link to '\(shown)', which is a folder") }
    let parent = try tree.parent(path, make: true, fail: fail)
    let name = path.name
    _ = try tree.create(parent, name, fail: fail) { clinux_link_descriptor(file.raw, parent, name) }
  }

  // MARK: metadata

  private func setMetadata(_ entry: TarEntry, _ file: Int32, _ fail: (String) -> Failure) throws {
    // The owner first, as a change of it drops set-id bits and capabilities.
    try check(
      clinux_fchownat(file, Calls.itself, try id(entry.owner, fail), try id(entry.group, fail)), fail)
    try check(clinux_chmod_descriptor(file, entry.permissions), fail)
    for (name, value) in entry.attributes { try setAttribute(file, name, value, fail) }
  }

  /// ACLs that come as attributes (GNU tar with `--xattrs-include='*'`) are done as the others, folders' at the end.
  private func takingRawACLs(_ entry: TarEntry, _ fail: (String) -> Failure) throws -> TarEntry {
    if entry.attributes.isEmpty { return entry }
    var entry = entry
    for (name, lines) in [
      (AttributeIDs.accessACL, \TarEntry.accessACL), (AttributeIDs.defaultACL, \TarEntry.defaultACL),
    ] {
      guard let index = entry.attributes.firstIndex(where: { $0.name.elementsEqual(name.utf8) }) else { continue }
      let value = entry.attributes.remove(at: index).value
      if !entry[keyPath: lines].isEmpty { continue }
      do {
        entry[keyPath: lines] = try ACLBytes.decode(value)
      } catch {
        throw fail("its attribute \(name) is malformed")
      }
    }
    return entry
  }

  private func setAttribute(_ file: Int32, _ name: [UInt8], _ value: [UInt8], _ fail: (String) -> Failure) throws {
    let text = String(decoding: name, as: UTF8.self)
    switch text {
    case AttributeIDs.capability: break
    case _ where text.hasPrefix("user."): break
    default:
      // Labels are the host's; trusted.overlay. would let an archive steer the overlay that it becomes a layer of.
      summary.skippedAttributes += 1
      return
    }
    let checked: [UInt8]
    do {
      checked = try AttributeIDs.rewrite(text, value) { $0 < 65536 ? $0 : options.squashesIDs ? 65534 : nil }
    } catch .foreign(let id) {
      throw fail("its attribute \(text) has id \(id), which is outside 0…65535")
    } catch {
      throw fail("its attribute \(text) is malformed")
    }
    try check(clinux_setxattr(file, EntryPath.name(name[...]), checked, checked.count), fail, "attribute \(text): ")
  }

  /// Sets an ACL at once when it has no names to be looked up.
  private func deferNames(_ entry: TarEntry, _ path: EntryPath, _ file: Int32, _ fail: (String) -> Failure) throws {
    if entry.accessACL.contains(where: { $0.id == nil && !$0.name.isEmpty }) {
      deferred.append(deferral(entry, path))
    } else {
      try setACL(file, AttributeIDs.accessACL, entry.accessACL, entry.permissions, nil, fail)
    }
  }

  private func deferral(_ entry: TarEntry, _ path: EntryPath) -> Deferred {
    Deferred(
      path: path, isDirectory: entry.kind == FileKind.directory, seconds: entry.seconds,
      nanoseconds: entry.nanoseconds, permissions: entry.permissions, accessACL: entry.accessACL,
      defaultACL: entry.defaultACL)
  }

  private func setACL(
    _ file: Int32, _ attribute: String, _ lines: [TarEntry.ACLLine], _ permissions: UInt32, _ names: AccountNames?,
    _ fail: (String) -> Failure
  ) throws {
    if lines.isEmpty { return }
    let value: [UInt8]
    do {
      value = try ACLBytes.encode(lines, permissions: permissions) { line in
        guard let id = line.id else { return names?.id(line) }
        return (0...65535).contains(id) ? UInt32(id) : options.squashesIDs ? 65534 : nil
      }
    } catch .unknown(let who) {
      throw fail("its ACL names \(who), which the image does not have")
    } catch {
      throw fail("its ACL is malformed")
    }
    try check(clinux_setxattr(file, attribute.asName, value, value.count), fail, "ACL: ")
  }

  private func id(_ id: Int64, _ fail: (String) -> Failure) throws(Failure) -> UInt32 {
    if (0...65535).contains(id) { return UInt32(id) }
    if options.squashesIDs { return 65534 }
    throw fail("its owner or group is \(id), which is outside 0…65535")
  }

  // MARK: errors

  private func failure(_ path: [UInt8], _ reason: String) -> Failure {
    Failure("import '\(printable(String(decoding: path, as: UTF8.self)))' of", archive, reason)
  }

  @discardableResult
  private func check<T: FixedWidthInteger>(
    _ result: T, _ fail: (String) -> Failure, _ prefix: String = ""
  ) throws(Failure) -> T {
    if result >= 0 { return result }
    let number = -Int32(truncatingIfNeeded: result)
    let plain = Calls.failure(number, "", "")
    var failure = fail(prefix + plain.reason)
    failure.errno = plain.errno
    failure.advice = plain.advice
    throw failure
  }
}
