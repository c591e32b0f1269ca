import CLinux
import Images
import Linux

/// Makes the trees of a stream in a folder that nobody else can enter. The stream may be anybody's.
package final class TreeReceiver {
  private static let mostEntries: UInt64 = 10_000_000

  private let reader: TreeReader
  private let progress: (TreeSummary) throws -> Void
  /// What may come, with the counts of what did not.
  package private(set) var policy: TreePolicy
  private var summary = TreeSummary()
  private var mostBytes: UInt64 = 0
  /// Whether a finished folder was entered again: what is new in it may get the folder's group.
  private var wasEnteredAgain = false

  /// A directory that the stream is in.
  private struct Level {
    var metadata: TreeMetadata?
    /// When it was there already: its own time, which making files in it changes.
    var modified: (seconds: Int64, nanoseconds: UInt32)?
  }

  /// Prepares to read a stream.
  ///
  /// - Parameters:
  ///   - reader: where the records come from.
  ///   - policy: what may come.
  ///   - progress: called after each entry and each piece of contents; what it throws ends the copy.
  package init(_ reader: TreeReader, policy: TreePolicy, progress: @escaping (TreeSummary) throws -> Void = { _ in }) {
    self.reader = reader
    self.policy = policy
    self.progress = progress
  }

  /// Makes everything that the stream holds.
  ///
  /// - Parameters:
  ///   - folder: an empty directory, open for reading, that only this process's user may enter.
  ///   - path: what the folder is called in errors.
  ///   - top: asked for each name in it before it is made; throwing ends the copy.
  /// - Throws: `OtherEndFailed` when the stream ends early; the folder is left as it then is.
  package func receive(
    into folder: Int32, path: String, top: ([UInt8]) throws -> Void = { _ in }
  ) throws -> TreeSummary {
    var free: UInt64 = 0
    try Calls.check(clinux_free_bytes(folder, &free), "measure the file system for", path)
    mostBytes = free / 100 * 95
    var stack = DescriptorStack(top: folder, path: path)
    var levels: [Level] = []
    while true {
      let record: TreeRecord
      do {
        record = try reader.next()
      } catch let error as TreeStreamError {
        throw Failure("read", "the stream of the copy", error.reason)
      }
      if levels.isEmpty, let name = record.name { try top(name) }
      switch record {
      case .directory(let name, let metadata):
        guard levels.count < TreeLimits.depth else { throw Failure("copy", path, "the tree is too deep") }
        levels.append(try enter(name.asName, metadata, &stack))
      case .leave:
        guard let level = levels.popLast() else { throw Self.malformed("it leaves a folder that it is not in") }
        try leave(level, stack)
        try stack.pop()
        continue
      case .file(let name, let metadata, let size, let extents):
        try makeFile(name.asName, metadata, size, extents, stack)
      case .data: throw Self.malformed("contents belong to no file")
      case .symbolicLink(let name, let metadata, let target):
        let text = target.asName
        let name = name.asName
        try make(name, stack) { clinux_symlinkat(text, $0, name) }
        try finishNode(name, try policy.admit(metadata, isRegular: false, path: stack.path(of: name)), stack)
      case .fifo(let name, let metadata):
        let name = name.asName
        let admitted = try policy.admit(metadata, isRegular: false, path: stack.path(of: name))
        try make(name, stack) { clinux_mknodat($0, name, FileKind.fifo | admitted.permissions & 0o777, 0, 0) }
        try finishNode(name, admitted, stack)
      case .hardLink(let name, let target):
        try link(name.asName, to: target, stack)
      case .end(let entries, let bytes):
        guard levels.isEmpty, entries == summary.entries, bytes == summary.bytes else {
          throw Self.malformed("it ends before everything came")
        }
        return summary
      case .failed: throw OtherEndFailed()
      }
      summary.entries += 1
      guard summary.entries <= Self.mostEntries else {
        throw Failure("copy", path, "there are more than \(Self.mostEntries) files")
      }
      try progress(summary)
    }
  }

  // MARK: directories

  private func enter(_ name: Name, _ metadata: TreeMetadata?, _ stack: inout DescriptorStack) throws -> Level {
    var level = Level()
    if let metadata { level.metadata = try policy.admit(metadata, isRegular: false, path: stack.path(of: name)) }
    let made = clinux_mkdirat(stack.current, name, 0o700)
    if made != Self.exists { try Calls.check(made, "make the folder", stack.path(of: name)) }
    if made == Self.exists { wasEnteredAgain = true }
    let opened = clinux_openat(stack.current, name, CLINUX_O_DIRECTORY, 0)
    let folder = OwnedDescriptor(try Calls.check(opened, "open the folder", stack.path(of: name)))
    let stat = try Calls.stat(folder.raw, Calls.itself, path: stack.path(of: name))
    if metadata == nil {
      if made == Self.exists {
        level.modified = (stat.modified_seconds, stat.modified_nanoseconds)
      } else {
        try Calls.check(clinux_open_fchmod(folder.raw, 0o755), "set the mode of", stack.path(of: name))
      }
    }
    stack.push(folder, identity: stat.identity, name: name)
    return level
  }

  private func leave(_ level: Level, _ stack: borrowing DescriptorStack) throws {
    // Only now: making files in it changes its time, and its default ACL would be theirs.
    if let metadata = level.metadata {
      try apply(metadata, stack.current, isNew: false, path: stack.path)
    } else if let modified = level.modified {
      try Calls.check(
        clinux_utimensat(stack.current, Calls.itself, modified.seconds, modified.nanoseconds), "set the time of",
        stack.path)
    }
  }

  // MARK: files

  private func makeFile(
    _ name: Name, _ metadata: TreeMetadata, _ size: UInt64, _ extents: [TreeExtent], _ stack: borrowing DescriptorStack
  ) throws {
    let admitted = try policy.admit(metadata, isRegular: true, path: stack.path(of: name))
    // O_WRONLY | O_CREAT | O_EXCL
    let opened = try make(name, stack) { clinux_openat($0, name, 0o1 | 0o100 | 0o200, admitted.permissions & 0o777) }
    let file = OwnedDescriptor(opened)
    for extent in extents {
      var done: UInt64 = 0
      while done < extent.length {
        guard case .data(let count) = try nextData(), UInt64(count) <= extent.length - done else {
          throw Self.malformed("the contents of a file do not fit it")
        }
        guard mostBytes - summary.bytes >= UInt64(count) else {
          throw Failure(
            "copy", stack.path(of: name), "there is no room for it",
            advice: "make room on the file system and try again")
        }
        try reader.forEachPiece { piece in
          try Calls.writeAll(file.raw, piece, at: Int64(clamping: extent.offset + done), path: stack.path(of: name))
          done += UInt64(piece.count)
        }
        summary.bytes += UInt64(count)
        try progress(summary)
      }
    }
    if let last = extents.last, last.offset + last.length == size {
    } else if size > 0 {
      try Calls.check(clinux_ftruncate(file.raw, Int64(clamping: size)), "set the length of", stack.path(of: name))
    }
    try apply(admitted, file.raw, isNew: true, path: stack.path(of: name))
  }

  private func nextData() throws -> TreeRecord {
    do {
      return try reader.next()
    } catch let error as TreeStreamError {
      throw Failure("read", "the stream of the copy", error.reason)
    }
  }

  /// Makes a name, in place of what came under the same name before: in an archive the last one counts.
  @discardableResult
  private func make(_ name: Name, _ stack: borrowing DescriptorStack, _ call: (Int32) -> Int32) throws -> Int32 {
    var result = call(stack.current)
    if result == Self.exists {
      try Calls.check(clinux_unlinkat(stack.current, name, 0), "replace", stack.path(of: name))
      result = call(stack.current)
    }
    return try Calls.check(result, "make", stack.path(of: name))
  }

  private func link(_ name: Name, to target: [[UInt8]], _ stack: borrowing DescriptorStack) throws {
    let parentPath = target.dropLast().joined(separator: [47]).map { CChar(bitPattern: $0) } + [0]
    let last = (target.last ?? []).asName
    let path = stack.path(of: name)
    let parent = try Beneath.open(
      stack.topDescriptor, Array(parentPath), CLINUX_O_PATH | CLINUX_O_DIRECTORY, path: path)
    var stat = clinux_stat()
    let found = clinux_statx(parent.raw, last, &stat)
    guard found == 0, !stat.isDirectory else { throw Self.malformed("a hard link leads to nothing, or to a folder") }
    try make(name, stack) { clinux_linkat(parent.raw, last, $0, name) }
  }

  // MARK: metadata

  private func apply(
    _ metadata: TreeMetadata, _ file: Int32, isNew: Bool, path: @autoclosure () -> String
  ) throws {
    let isOwnedByRoot = metadata.owner == 0 && metadata.group == 0 && !wasEnteredAgain
    // The folder that all of it is made in belongs to root, and so does what is new in it.
    if !isNew || !isOwnedByRoot {
      try Calls.check(clinux_fchownat(file, Calls.itself, metadata.owner, metadata.group), "set the owner of", path())
    }
    // After the owner, whose change drops capabilities and set-id bits; the mode last, as an ACL changes it.
    for attribute in metadata.attributes where try !OpenAttributes.set(file, attribute, path: path()) {
      policy.skippedAttributes += 1
    }
    if !isNew || !isOwnedByRoot || !metadata.attributes.isEmpty || metadata.permissions > 0o777 {
      try Calls.check(clinux_open_fchmod(file, metadata.permissions), "set the mode of", path())
    }
    try Calls.check(
      clinux_utimensat(file, Calls.itself, metadata.seconds, metadata.nanoseconds), "set the time of", path())
  }

  /// Links and pipes cannot be opened; nobody else can exchange them here.
  private func finishNode(_ name: Name, _ metadata: TreeMetadata, _ stack: borrowing DescriptorStack) throws {
    let directory = stack.current
    if metadata.owner != 0 || metadata.group != 0 || wasEnteredAgain {
      try Calls.check(
        clinux_fchownat(directory, name, metadata.owner, metadata.group), "set the owner of", stack.path(of: name))
    }
    policy.skippedAttributes += UInt64(metadata.attributes.count)
    try Calls.check(
      clinux_utimensat(directory, name, metadata.seconds, metadata.nanoseconds), "set the time of",
      stack.path(of: name))
  }

  private static func malformed(_ reason: String) -> Failure { Failure("read", "the stream of the copy", reason) }

  private static let exists: Int32 = -17
}

extension TreeRecord {
  /// The name of what it makes.
  package var name: [UInt8]? {
    switch self {
    case .directory(let name, _), .file(let name, _, _, _), .symbolicLink(let name, _, _), .fifo(let name, _),
      .hardLink(let name, _):
      name
    case .leave, .data, .end, .failed: nil
    }
  }
}

extension [UInt8] {
  /// A file name as the kernel takes it.
  package var asName: Name { map { CChar(bitPattern: $0) } + [0] }
}
