import CLinux
import Images
import Linux

/// Walks trees beneath descriptors and writes them to a stream. Somebody may be changing them meanwhile: no link is ever
/// followed below the top, so the worst is a copy that mixes old and new.
package final class TreeSender {
  /// A name that is another kind of file each time it is looked at is given up after so many looks.
  private static let looks = 1000
  /// A folder that never comes to an end, as a file system of the machine's making can have, is given up after so many
  /// folders in it: their names are kept until it is their turn.
  private static let mostFolders = 4_000_000

  let writer: TreeWriter
  private let progress: (TreeSummary) throws -> Void
  /// What may be sent, with the counts of what was not.
  package private(set) var policy: TreePolicy
  private var summary = TreeSummary()
  private var links: [FileIdentity: [[UInt8]]] = [:]
  private let directoryReader = DirectoryReader()
  private var mount: UInt64 = 0

  /// Begins a stream.
  ///
  /// - Parameters:
  ///   - writer: where the records go.
  ///   - policy: what may be sent.
  ///   - progress: called after each entry and each piece of contents; what it throws ends the copy.
  package init(_ writer: TreeWriter, policy: TreePolicy, progress: @escaping (TreeSummary) throws -> Void = { _ in }) {
    self.writer = writer
    self.policy = policy
    self.progress = progress
  }

  /// Sends a file or a whole tree; what is mounted in the tree is left out.
  ///
  /// - Parameters:
  ///   - path: the operator's path: links in it are followed, but the last name is taken as it is.
  ///   - side: where the path is looked up.
  package func send(_ path: String, on side: TopPath.Side) throws {
    let place = try TopPath(source: path, on: side)
    let stat = try Calls.stat(place.folder.raw, place.name, path: path)
    mount = stat.mount
    let topName = place.label
    guard
      let opened = try sendEntry(place.folder.raw, place.name, label: topName, path: path, relative: { [topName] })
    else { return }
    let directory = OwnedDescriptor(opened)
    var stack = DescriptorStack(top: directory.raw, path: path)
    var levels = [try sendFiles(stack, topName)]
    while let last = levels.indices.last {
      guard let name = levels[last].popLast() else {
        levels.removeLast()
        try writer.write(.leave)
        if !levels.isEmpty { try stack.pop() }
        continue
      }
      guard
        let opened = try sendEntry(
          stack.current, name, path: stack.path(of: name),
          relative: { Self.relative(stack, topName, name) })
      else { continue }
      let child = OwnedDescriptor(opened)
      let identity = try Calls.stat(child.raw, Calls.itself, path: stack.path(of: name)).identity
      stack.push(child, identity: identity, name: name)
      levels.append(try sendFiles(stack, topName))
    }
  }

  /// Ends the stream.
  package func end() throws -> TreeSummary {
    try writer.write(.end(entries: summary.entries, bytes: summary.bytes))
    try writer.flush()
    return summary
  }

  /// Tells the other end that nothing more comes. That it is gone as well is nothing to tell anybody.
  package func giveUp() {
    try? writer.write(.failed)
    try? writer.flush()
  }

  /// Sends everything in the current directory that is no directory, and gives the names of those that are.
  private func sendFiles(_ stack: borrowing DescriptorStack, _ topName: [UInt8]) throws -> [Name] {
    var directories: [Name] = []
    let directory = stack.current
    try directoryReader.forEach(directory, path: stack.path) { name, type in
      guard directories.count < Self.mostFolders else {
        throw Failure("copy", stack.path, "there are more than \(Self.mostFolders) folders in it")
      }
      if type == DirectoryReader.directoryType {
        directories.append(DirectoryReader.copy(name))
        return
      }
      let opened = try sendEntry(
        directory, name, path: stack.path(of: name),
        relative: { Self.relative(stack, topName, name) }, keepsDirectories: { directories.append($0) })
      if let opened { clinux_close(opened) }
    }
    return directories
  }

  private static func relative(
    _ stack: borrowing DescriptorStack, _ topName: [UInt8], _ name: UnsafePointer<CChar>
  ) -> [[UInt8]] {
    let path = stack.relativePath(of: name).dropLast().map { UInt8(bitPattern: $0) }
    return [topName] + path.split(separator: 47).map(Array.init)
  }

  /// Sends one name.
  ///
  /// - Parameter label: what the top of a tree is called in the stream.
  /// - Returns: a directory that was entered in the stream, open, for the caller to go on with.
  private func sendEntry(
    _ directory: Int32, _ name: UnsafePointer<CChar>, label: [UInt8]? = nil, path: @autoclosure () -> String,
    relative: () -> [[UInt8]], keepsDirectories: ((Name) -> Void)? = nil
  ) throws -> Int32? {
    for _ in 0..<Self.looks {
      var stat = clinux_stat()
      let found = clinux_statx(directory, name, &stat)
      // Gone since it was listed.
      if found == Self.noEntry, label == nil { return nil }
      try Calls.check(found, "look at", path())
      if stat.mount != mount {
        policy.skippedMounts += 1
        return nil
      }
      let bytes = label ?? DirectoryReader.copy(name).asBytes
      switch stat.kind {
      case FileKind.directory:
        if let keepsDirectories {
          keepsDirectories(DirectoryReader.copy(name))
          return nil
        }
        let opened = clinux_openat(directory, name, CLINUX_O_DIRECTORY | CLINUX_O_NONBLOCK, 0)
        if Self.wasReplaced(opened) { continue }
        let file = OwnedDescriptor(try Calls.check(opened, "open", path()))
        stat = try Calls.stat(file.raw, Calls.itself, path: path())
        if stat.mount != mount { continue }
        try writer.write(.directory(name: bytes, try metadata(file.raw, stat, path: path())))
        try count()
        return file.release()
      case FileKind.regular:
        // Not blocking: by now it may be a pipe that nobody writes to.
        let opened = clinux_openat(directory, name, CLINUX_O_NONBLOCK, 0)
        if Self.wasReplaced(opened) { continue }
        let file = OwnedDescriptor(try Calls.check(opened, "open", path()))
        stat = try Calls.stat(file.raw, Calls.itself, path: path())
        if !stat.isRegular || stat.mount != mount { continue }
        if stat.links > 1 {
          if let first = links[stat.identity] {
            try writer.write(.hardLink(name: bytes, target: first))
            try count()
            return nil
          }
          links[stat.identity] = relative()
        }
        try sendFile(file.raw, bytes, stat, path: path())
      case FileKind.symbolicLink:
        var buffer = [CChar](repeating: 0, count: 4097)
        let length = clinux_readlinkat(directory, name, &buffer, 4096)
        if Self.wasReplaced(Int32(clamping: length)) || length == Self.notLink { continue }
        try Calls.check(length, "read the link", path())
        let target = buffer[..<length].map { UInt8(bitPattern: $0) }
        try writer.write(.symbolicLink(name: bytes, try metadata(-1, stat, path: path()), target: target))
      case FileKind.fifo:
        try writer.write(.fifo(name: bytes, try metadata(-1, stat, path: path())))
      default:
        try policy.special(stat.kind, path())
        return nil
      }
      try count()
      return nil
    }
    throw Failure("copy", path(), "it keeps being replaced", advice: "try again when nobody changes the tree")
  }

  private func count() throws {
    summary.entries += 1
    try progress(summary)
  }

  func count(bytes: UInt64) throws {
    summary.bytes += bytes
    try progress(summary)
  }

  private func metadata(_ file: Int32, _ stat: clinux_stat, path: @autoclosure () -> String) throws -> TreeMetadata {
    var result = TreeMetadata(
      permissions: stat.permissions, owner: stat.owner, group: stat.group, seconds: stat.modified_seconds,
      nanoseconds: min(stat.modified_nanoseconds, 999_999_999))
    if file >= 0 {
      result.attributes = try OpenAttributes.read(file, skipped: &policy.skippedAttributes, path: path())
    }
    return try policy.admit(result, isRegular: stat.isRegular, path: path())
  }

  private func sendFile(_ file: Int32, _ name: [UInt8], _ stat: clinux_stat, path: @autoclosure () -> String) throws {
    let metadata = try metadata(file, stat, path: path())
    let contents = try FileExtents(file, stat, path: path())
    try writer.write(.file(name: name, metadata, size: contents.size, extents: contents.extents))
    for extent in contents.extents {
      var done: UInt64 = 0
      while done < extent.length {
        let offset = extent.offset + done
        let count = try writer.writeData(limit: extent.length - done) { buffer in
          let count = try contents.read(file, buffer, at: offset, path: path())
          // It became shorter meanwhile; its length was told already.
          if count == 0 { buffer.initializeMemory(as: UInt8.self, repeating: 0) }
          return count == 0 ? buffer.count : count
        }
        done += UInt64(count)
        try self.count(bytes: UInt64(count))
      }
    }
  }

  /// Whether a call failed because the name stands for something else than a moment before.
  private static func wasReplaced(_ result: Int32) -> Bool { [noEntry, -6, -20, -40].contains(result) }

  private static let noEntry: Int32 = -2
  private static let notLink = -22
}

extension Name {
  /// The bytes of the name, without the NUL at its end.
  package var asBytes: [UInt8] { dropLast().map { UInt8(bitPattern: $0) } }
}
