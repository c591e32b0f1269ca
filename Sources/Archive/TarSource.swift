import Images
import Linux
import TreeStream

/// Sends what is in a tar archive as a stream of trees.
package final class TarSource {
  private static let deepest = 1024

  private let descriptor: Int32
  private let writer: TreeWriter
  private let progress: (TreeSummary) throws -> Void
  /// What may be sent, with the counts of what was not.
  package private(set) var policy: TreePolicy
  private var summary = TreeSummary()
  /// The directory that the stream is in.
  private var current: [[UInt8]] = []

  /// Prepares to read an archive.
  ///
  /// - Parameters:
  ///   - descriptor: the archive, which may be a pipe.
  ///   - writer: where the records go.
  ///   - policy: what may be sent.
  ///   - progress: called after each entry and each piece of contents; what it throws ends the copy.
  package init(
    _ descriptor: Int32, writer: TreeWriter, policy: TreePolicy,
    progress: @escaping (TreeSummary) throws -> Void = { _ in }
  ) {
    self.descriptor = descriptor
    self.writer = writer
    self.policy = policy
    self.progress = progress
  }

  /// Sends all of it, or tells the other end that nothing more comes.
  package func send() throws {
    do {
      let reader = try TarReader(descriptor, path: "the archive")
      while let entry = try reader.next() { try send(entry, reader) }
      if summary.entries == 0 { throw Failure("copy", "the archive", "it has no entries") }
      try navigate(to: [])
      try writer.write(.end(entries: summary.entries, bytes: summary.bytes))
      try writer.flush()
    } catch {
      if !(error is OtherEndFailed) {
        try? writer.write(.failed)
        try? writer.flush()
      }
      throw error
    }
  }

  private func send(_ entry: TarEntry, _ reader: TarReader) throws {
    let shown = String(decoding: entry.path, as: UTF8.self)
    let path = try Self.components(entry.path, shown)
    guard let name = path.last else {
      if entry.kind == FileKind.directory { return }
      throw Failure("copy", shown, "it is the top of the archive, and no folder")
    }
    try navigate(to: Array(path.dropLast()))
    if let target = entry.hardLink {
      let target = try Self.components(target, shown)
      if target.isEmpty { throw Failure("copy", shown, "it is a hard link to the top of the archive") }
      return try write(.hardLink(name: name, target: target))
    }
    if [FileKind.characterDevice, FileKind.blockDevice, FileKind.socket].contains(entry.kind) {
      return try policy.special(entry.kind, shown)
    }
    let metadata = try metadata(entry, shown)
    switch entry.kind {
    case FileKind.directory:
      try write(.directory(name: name, metadata))
      current.append(name)
    case FileKind.regular: try sendFile(entry, name, metadata, reader, shown)
    case FileKind.symbolicLink:
      guard (1...4095).contains(entry.symbolicLink.count) else {
        throw Failure("copy", shown, "it is a symbolic link to nothing, or too far")
      }
      try write(.symbolicLink(name: name, metadata, target: entry.symbolicLink))
    case FileKind.fifo: try write(.fifo(name: name, metadata))
    default: throw Failure("copy", shown, "it is of a kind that no tree has")
    }
  }

  /// Leaves and enters directories until the stream is in this one.
  private func navigate(to path: [[UInt8]]) throws {
    while !path.starts(with: current) {
      try writer.write(.leave)
      current.removeLast()
    }
    for name in path.dropFirst(current.count) {
      try write(.directory(name: name, nil))
      current.append(name)
    }
  }

  private func write(_ record: TreeRecord) throws {
    try writer.write(record)
    summary.entries += 1
    try progress(summary)
  }

  private func sendFile(
    _ entry: TarEntry, _ name: [UInt8], _ metadata: TreeMetadata, _ reader: TarReader, _ shown: String
  ) throws {
    let misfit = Failure("copy", shown, "its contents do not fit its size")
    guard let size = UInt64(exactly: entry.size) else { throw misfit }
    var extents: [TreeExtent] = []
    for (offset, length) in entry.extents where length > 0 {
      guard let offset = UInt64(exactly: offset), let length = UInt64(exactly: length), offset <= size,
        length <= size - offset, extents.last.map({ $0.offset + $0.length <= offset }) ?? true
      else { throw misfit }
      extents.append(TreeExtent(offset: offset, length: length))
    }
    let isSparse = !entry.extents.isEmpty && extents.count <= TreeLimits.extents
    if !isSparse { extents = size > 0 ? [TreeExtent(offset: 0, length: size)] : [] }
    try write(.file(name: name, metadata, size: size, extents: extents))
    var cursor = ExtentCursor(extents)
    try reader.forEachBlock { bytes, offset in
      guard let offset = UInt64(exactly: offset) else { throw misfit }
      while let gap = cursor.gap(upTo: offset) { try writeZeros(gap, &cursor) }
      guard cursor.takes(UInt64(bytes.count), at: offset) else { throw misfit }
      var done = 0
      while done < bytes.count {
        let count = try writer.writeData(limit: UInt64(bytes.count - done)) { buffer in
          buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + buffer.count]))
          return buffer.count
        }
        done += count
        try advance(count, &cursor)
      }
    }
    while let gap = cursor.gap(upTo: .max) { try writeZeros(gap, &cursor) }
  }

  private func writeZeros(_ count: UInt64, _ cursor: inout ExtentCursor) throws {
    let written = try writer.writeData(limit: count) { buffer in
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      return buffer.count
    }
    try advance(written, &cursor)
  }

  private func advance(_ count: Int, _ cursor: inout ExtentCursor) throws {
    cursor.advance(UInt64(count))
    summary.bytes += UInt64(count)
    try progress(summary)
  }

  private func metadata(_ entry: TarEntry, _ shown: String) throws -> TreeMetadata {
    var result = TreeMetadata(
      permissions: entry.permissions & 0o7777, owner: UInt32(exactly: entry.owner) ?? .max,
      group: UInt32(exactly: entry.group) ?? .max, seconds: entry.seconds, nanoseconds: entry.nanoseconds)
    for (name, value) in entry.attributes where (1...255).contains(name.count) && value.count <= 65536 {
      result.attributes.append(TreeMetadata.Attribute(name: name, value: value))
    }
    for (name, lines) in [(AttributeIDs.accessACL, entry.accessACL), (AttributeIDs.defaultACL, entry.defaultACL)]
    where !lines.isEmpty {
      // Names without ids are those of a host that is neither this one nor the machine.
      if let value = try? ACLBytes.encode(
        lines, permissions: entry.permissions, resolve: { $0.id.flatMap { UInt32(exactly: $0) } })
      {
        result.attributes.append(TreeMetadata.Attribute(name: Array(name.utf8), value: value))
        // What a mode shows of a group is the mask where there is one; libarchive gives the group's own.
        if name == AttributeIDs.accessACL, let mask = try? ACLBytes.decode(value).first(where: { $0.tag == 0x10 }) {
          result.permissions = result.permissions & ~0o070 | UInt32(mask.permissions) << 3
        }
      } else {
        policy.skippedAttributes += 1
      }
    }
    return try policy.admit(result, isRegular: entry.kind == FileKind.regular, path: shown)
  }

  private static func components(_ path: [UInt8], _ shown: String) throws(Failure) -> [[UInt8]] {
    do {
      return try EntryPath(path, maximumDepth: deepest).components.map(Array.init)
    } catch {
      throw Failure("copy", shown, error.reason)
    }
  }
}

/// How far the contents of a file were written, in its extents.
private struct ExtentCursor {
  private var extents: ArraySlice<TreeExtent>

  init(_ extents: [TreeExtent]) { self.extents = extents[...].filter { $0.length > 0 }[...] }

  /// How much of the current extent lies before an offset.
  func gap(upTo offset: UInt64) -> UInt64? {
    guard let first = extents.first, first.offset < offset else { return nil }
    return min(first.length, offset - first.offset)
  }

  /// Whether so many bytes at an offset are what comes next.
  func takes(_ count: UInt64, at offset: UInt64) -> Bool {
    guard count > 0 else { return true }
    guard extents.first?.offset == offset else { return false }
    var end = offset
    for extent in extents {
      guard extent.offset == end else { return false }
      end += extent.length
      if end - offset >= count { return true }
    }
    return false
  }

  mutating func advance(_ count: UInt64) {
    var left = count
    while left > 0, let first = extents.popFirst() {
      let step = min(left, first.length)
      left -= step
      if step < first.length {
        extents = [TreeExtent(offset: first.offset + step, length: first.length - step)] + extents
      }
    }
  }
}
