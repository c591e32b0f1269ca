import CLinux
import Linux
import SystemPackage

/// Copies a directory tree, everything about it included, by descriptors only.
public struct TreeCopy {
  /// What to do with device nodes; character device 0:0, overlayfs's whiteout, is always kept.
  public enum Devices: Sendable {
    /// Make them in the copy.
    case keep
    /// Leave them out, and count them.
    case skip
  }

  /// What was copied.
  public struct Summary: Sendable, Equatable {
    /// Entries in the copy, the top directory not counted.
    public var entries: UInt64 = 0
    /// Bytes of file contents, holes not counted where the file system tells them.
    public var bytes: UInt64 = 0
    /// Sockets that were left out: they are dead without the process that bound them.
    public var skippedSockets: UInt64 = 0
    /// Device nodes that were left out.
    public var skippedDevices: UInt64 = 0
    /// Mounts that were not entered: an empty directory stands for a directory, nothing for a file.
    public var skippedMounts: UInt64 = 0
  }

  /// Moves ids on the way, when set.
  public var shift: IDShift?
  /// Whether only ids of an image (0…65535) are taken, when none is shifted, and what is done with others.
  public var imageIDs: IDShift.Foreign?
  /// What to do with device nodes.
  public var devices = Devices.skip
  /// Whether to go into what is mounted on the tree.
  public var crossesMounts = false
  /// Called after each entry and each 16 MiB with what was copied so far; throwing ends the copy.
  public var progress: (Summary) throws -> Void = { _ in }

  private var summary = Summary()
  private var contents = FileContents()
  private var links: [FileIdentity: FirstLink] = [:]
  private var mount: UInt64 = 0

  private struct FirstLink {
    var path: [CChar]
    var identity: FileIdentity
    var remaining: UInt32
  }

  private struct Level {
    var pending: [Name]
    var stat: clinux_stat
  }

  /// Makes a copier with the default options.
  public init() {}

  /// Copies what is in one directory, and the directory's own attributes, to an empty one.
  ///
  /// Owners, modes with set-id bits, every extended attribute (ACLs and file capabilities included; the host's own
  /// security labels not), hard links, holes and nanosecond mtimes are kept. Both trees may be changing: no link is ever
  /// followed, so the worst is a copy that mixes old and new. The corresponding calls are `openat`, `FICLONE`,
  /// `copy_file_range`, `fchownat`, `setxattr`, `fchmodat2` and `utimensat`.
  ///
  /// - Parameters:
  ///   - source: the directory to copy.
  ///   - target: an empty directory.
  ///   - sourcePath: what the source is called in an error.
  /// - Returns: what was copied.
  /// - Throws: `Failure` for the first entry that cannot be copied; the target is left as it then is.
  public mutating func copy(
    from source: FileDescriptor, to target: FileDescriptor, sourcePath: String
  ) throws -> Summary {
    summary = Summary()
    links = [:]
    contents = FileContents()
    let sourceTop = try Calls.open(source.rawValue, ".", CLINUX_O_DIRECTORY, path: sourcePath)
    let targetTop = try Calls.open(target.rawValue, ".", CLINUX_O_DIRECTORY, path: sourcePath)
    let top = try Calls.stat(sourceTop.raw, Calls.itself, path: sourcePath)
    mount = top.mount
    // Else every new file would inherit it.
    try Attributes.remove(targetTop.raw, AttributeIDs.defaultACL, path: sourcePath)

    let reader = DirectoryReader()
    var from = DescriptorStack(top: sourceTop.raw, path: sourcePath)
    var to = DescriptorStack(top: targetTop.raw, path: sourcePath)
    var levels = [Level(pending: try copyFiles(reader, from, to), stat: top)]
    while let last = levels.indices.last {
      if let name = levels[last].pending.popLast() {
        if let level = try descend(name, &from, &to, reader) { levels.append(level) }
        continue
      }
      // Only now: making files in it would change its mtime, and its default ACL theirs.
      let done = levels.removeLast()
      try copyMetadata(from.current, to.current, done.stat, path: from.path)
      if !levels.isEmpty {
        try from.pop()
        try to.pop()
      }
    }
    links = [:]
    return summary
  }

  /// Makes a directory and goes into it; nil when it is no directory any more, or a mount.
  private mutating func descend(
    _ name: Name, _ from: inout DescriptorStack, _ to: inout DescriptorStack, _ reader: DirectoryReader
  ) throws -> Level? {
    let opened = clinux_openat(from.current, name, CLINUX_O_DIRECTORY, 0)
    // Gone or replaced since it was listed.
    if opened == -2 || opened == -20 || opened == -40 { return nil }
    let source = OwnedDescriptor(try Calls.check(opened, "open", from.path(of: name)))
    let stat = try Calls.stat(source.raw, Calls.itself, path: from.path(of: name))
    try Calls.check(clinux_mkdirat(to.current, name, 0o700), "make the copy of", from.path(of: name))
    let target = try Calls.open(to.current, name, CLINUX_O_DIRECTORY, path: from.path(of: name))
    try countEntry()
    if stat.mount != mount && !crossesMounts {
      summary.skippedMounts += 1
      try copyMetadata(source.raw, target.raw, stat, path: from.path(of: name))
      return nil
    }
    let identity = try Calls.stat(target.raw, Calls.itself, path: from.path(of: name)).identity
    from.push(source, identity: stat.identity, name: name)
    to.push(target, identity: identity, name: name)
    return Level(pending: try copyFiles(reader, from, to), stat: stat)
  }

  /// Copies everything in the current directory that is no directory, and gives the names of those that are.
  private mutating func copyFiles(
    _ reader: DirectoryReader, _ from: borrowing DescriptorStack, _ to: borrowing DescriptorStack
  ) throws -> [Name] {
    var directories: [Name] = []
    let source = from.current
    try reader.forEach(source, path: from.path) { name, type in
      if type == DirectoryReader.directoryType {
        directories.append(DirectoryReader.copy(name))
      } else if try copyFile(name, from, to) == .directory {
        directories.append(DirectoryReader.copy(name))
      }
    }
    return directories
  }

  private enum Outcome { case done, directory }

  private mutating func copyFile(
    _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack, _ to: borrowing DescriptorStack
  ) throws -> Outcome {
    let handle = clinux_openat(from.current, name, CLINUX_O_PATH, 0)
    if handle == -2 { return .done }
    let source = OwnedDescriptor(try Calls.check(handle, "open", from.path(of: name)))
    let stat = try Calls.stat(source.raw, Calls.itself, path: from.path(of: name))
    if stat.isDirectory { return .directory }
    if stat.mount != mount && !crossesMounts {
      summary.skippedMounts += 1
      return .done
    }
    if stat.links > 1, try linkAgain(stat, name, from, to) {
      try countEntry()
      return .done
    }
    switch stat.kind {
    case FileKind.regular: try copyRegular(source.raw, stat, name, from, to)
    case FileKind.symbolicLink:
      let text = try readLink(source.raw, path: from.path(of: name))
      try Calls.check(clinux_symlinkat(text, to.current, name), "make the copy of", from.path(of: name))
      try finishNode(source.raw, stat, name, from, to)
    case FileKind.fifo:
      try makeNode(source.raw, stat, name, from, to)
    case FileKind.characterDevice where stat.node_major == 0 && stat.node_minor == 0:
      try makeNode(source.raw, stat, name, from, to)
    case FileKind.characterDevice, FileKind.blockDevice:
      if devices == .skip {
        summary.skippedDevices += 1
        return .done
      }
      try makeNode(source.raw, stat, name, from, to)
    default:
      summary.skippedSockets += 1
      return .done
    }
    try countEntry()
    return .done
  }

  private mutating func copyRegular(
    _ source: Int32, _ stat: clinux_stat, _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack,
    _ to: borrowing DescriptorStack
  ) throws {
    let readOnly: Int32 = 0
    let writeOnlyNew: Int32 = FileDescriptor.AccessMode.writeOnly.rawValue | createNew
    let target = OwnedDescriptor(
      try Calls.check(clinux_openat(to.current, name, writeOnlyNew, 0o600), "make the copy of", from.path(of: name)))
    if stat.size > 0 {
      let data = OwnedDescriptor(try Calls.check(clinux_reopen(source, readOnly), "open", from.path(of: name)))
      try contents.copy(data.raw, target.raw, size: stat.size, path: from.path(of: name)) { count in
        summary.bytes += count
        try progress(summary)
      }
    }
    try copyMetadata(source, target.raw, stat, path: from.path(of: name))
    try remember(stat, target.raw, name, from, to)
  }

  private mutating func makeNode(
    _ source: Int32, _ stat: clinux_stat, _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack,
    _ to: borrowing DescriptorStack
  ) throws {
    try Calls.check(
      clinux_mknodat(to.current, name, stat.kind | 0o600, stat.node_major, stat.node_minor), "make the copy of",
      from.path(of: name))
    try finishNode(source, stat, name, from, to)
  }

  private mutating func finishNode(
    _ source: Int32, _ stat: clinux_stat, _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack,
    _ to: borrowing DescriptorStack
  ) throws {
    let target = try Calls.open(to.current, name, CLINUX_O_PATH, path: from.path(of: name))
    try copyMetadata(source, target.raw, stat, path: from.path(of: name))
    try remember(stat, target.raw, name, from, to)
  }

  private mutating func countEntry() throws {
    summary.entries += 1
    try progress(summary)
  }

  // MARK: hard links

  private mutating func remember(
    _ stat: clinux_stat, _ target: Int32, _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack,
    _ to: borrowing DescriptorStack
  ) throws {
    if stat.links < 2 { return }
    let identity = try Calls.stat(target, Calls.itself, path: from.path(of: name)).identity
    links[stat.identity] = FirstLink(path: to.relativePath(of: name), identity: identity, remaining: stat.links - 1)
  }

  /// Links a name to the copy that its inode already has; false when it has none.
  private mutating func linkAgain(
    _ stat: clinux_stat, _ name: UnsafePointer<CChar>, _ from: borrowing DescriptorStack,
    _ to: borrowing DescriptorStack
  ) throws -> Bool {
    guard var first = links[stat.identity] else { return false }
    let path = from.path(of: name)
    let found = try Beneath.open(to.topDescriptor, first.path, CLINUX_O_PATH, path: path)
    guard try Calls.stat(found.raw, Calls.itself, path: path).identity == first.identity else {
      throw Failure("link", path, "the first copy of it was replaced meanwhile")
    }
    try Calls.check(clinux_link_descriptor(found.raw, to.current, name), "link", path)
    first.remaining -= 1
    links[stat.identity] = first.remaining == 0 ? nil : first
    return true
  }

  // MARK: attributes

  private func copyMetadata(
    _ source: Int32, _ target: Int32, _ stat: clinux_stat, path: @autoclosure () -> String
  ) throws {
    try Calls.check(
      clinux_fchownat(
        target, Calls.itself, try shifted(stat.owner, path: path()), try shifted(stat.group, path: path())),
      "set the owner of", path())
    // After the owner, whose change drops capabilities and set-id bits; the mode last, as an ACL changes it.
    for name in try Attributes.names(source, path: path()) {
      let text = String(name: name)
      if Attributes.isHostLabel(text) { continue }
      guard var value = try Attributes.value(source, name, path: path()) else { continue }
      if let shift {
        value = try Self.rewrite(text, value, shift, path: path())
      } else if imageIDs != nil {
        value = try Self.rewrite(text, value, { imageID($0) }, path: path()) { Self.outside($0, path()) }
      }
      try Attributes.set(target, name, value, path: path())
    }
    if !stat.isSymbolicLink {
      try Calls.check(clinux_chmod_descriptor(target, stat.permissions), "set the mode of", path())
    }
    try Calls.check(
      clinux_utimensat(target, Calls.itself, stat.modified_seconds, stat.modified_nanoseconds), "set the time of",
      path())
  }

  private func shifted(_ id: UInt32, path: @autoclosure () -> String) throws(Failure) -> UInt32 {
    guard let shift else {
      guard let result = imageID(id) else { throw Self.outside(id, path()) }
      return result
    }
    guard let result = shift(id) else { throw shift.foreignID(id, path: path()) }
    return result
  }

  private func imageID(_ id: UInt32) -> UInt32? {
    guard let imageIDs, id > 65535 else { return id }
    return imageIDs == .squash ? 65534 : nil
  }

  private static func outside(_ id: UInt32, _ path: String) -> Failure {
    Failure(
      "import", path, "its owner, group or an id in its attributes is \(id), which is outside 0…65535",
      advice: "give it another owner, or pass --squash-ids")
  }

  static func rewrite(
    _ name: String, _ value: [UInt8], _ shift: IDShift, path: @autoclosure () -> String
  ) throws(Failure) -> [UInt8] {
    try rewrite(name, value, { shift($0) }, path: path()) { shift.foreignID($0, path: path()) }
  }

  private static func rewrite(
    _ name: String, _ value: [UInt8], _ map: (UInt32) -> UInt32?, path: @autoclosure () -> String,
    _ foreign: (UInt32) -> Failure
  ) throws(Failure) -> [UInt8] {
    do {
      return try AttributeIDs.rewrite(name, value, map)
    } catch .foreign(let id) {
      throw foreign(id)
    } catch {
      throw Failure("shift attribute \(name) of", path(), "its value is malformed")
    }
  }

  private func readLink(_ handle: Int32, path: @autoclosure () -> String) throws -> Name {
    var buffer = [CChar](repeating: 0, count: 4097)
    let length = try Calls.check(clinux_readlinkat(handle, Calls.itself, &buffer, 4096), "read the link", path())
    return Array(buffer[..<length]) + [0]
  }

  private var createNew: Int32 {
    FileDescriptor.OpenOptions.create.rawValue | FileDescriptor.OpenOptions.exclusiveCreate.rawValue
  }
}
