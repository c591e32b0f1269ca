import CLibarchive
import Glibc
import Images
import Linux
import TreeStream

/// Writes a stream of trees as a tar archive (pax). The stream may be anybody's.
package final class TarSink {
  /// A file that claims to be larger costs more time to skip through than there is, though nothing of it is there.
  private static let largestFile: UInt64 = 1 << 50

  private let archive: OpaquePointer
  private let progress: (TreeSummary) throws -> Void
  /// What may come, with the counts of what did not.
  package private(set) var policy: TreePolicy
  private var summary = TreeSummary()
  private let holes = try? Holes()

  /// Begins an archive.
  ///
  /// - Parameters:
  ///   - descriptor: where it goes; it stays the caller's.
  ///   - policy: what may come.
  ///   - progress: called after each entry and each piece of contents; what it throws ends the copy.
  package init(
    _ descriptor: Int32, policy: TreePolicy, progress: @escaping (TreeSummary) throws -> Void = { _ in }
  ) throws {
    // Names are bytes: in the C locale libarchive would refuse every one that is not ASCII.
    setlocale(LC_CTYPE, "C.UTF-8")
    guard let archive = archive_write_new() else { throw Failure("write", "the archive", "out of memory") }
    self.archive = archive
    self.policy = policy
    self.progress = progress
    // The restricted form leaves out parts of seconds.
    try check(archive_write_set_format_pax(archive))
    // The other way of writing extended attributes is known to nobody else.
    try check(archive_write_set_options(archive, "xattrheader=SCHILY"))
    try check(archive_write_open_fd(archive, descriptor))
  }

  deinit { archive_write_free(archive) }

  /// Writes everything that the stream holds.
  ///
  /// - Throws: `OtherEndFailed` when the stream ends early; the archive has no end mark then.
  package func receive(_ reader: TreeReader) throws {
    do {
      try receiveAll(reader)
      try check(archive_write_close(archive))
    } catch {
      // Else its freeing would make an archive of it that looks whole.
      archive_write_fail(archive)
      if let error = error as? TreeStreamError { throw Failure("read", "the stream of the copy", error.reason) }
      throw error
    }
  }

  private func receiveAll(_ reader: TreeReader) throws {
    var levels: [[UInt8]] = []
    while true {
      let record = try reader.next()
      if let name = record.name { levels.append(name) }
      switch record {
      case .directory(_, let metadata):
        guard levels.count <= TreeLimits.depth, let metadata else { throw Self.malformed("a folder is no folder") }
        try writeHeader(levels, FileKind.directory, metadata)
      case .leave:
        guard levels.popLast() != nil else { throw Self.malformed("it leaves a folder that it is not in") }
        continue
      case .file(_, let metadata, let size, let extents):
        guard size <= Self.largestFile else {
          throw Failure(
            "copy", String(decoding: Array(levels.joined(separator: [47])), as: UTF8.self),
            "it is larger than 1 PiB, which no archive is made for", advice: "leave it out, or copy it to a folder")
        }
        try writeHeader(levels, FileKind.regular, metadata) { entry in
          archive_entry_set_size(entry, Int64(clamping: size))
          let isWhole = extents.first?.length == size
          for extent in extents where !isWhole {
            archive_entry_sparse_add_entry(entry, Int64(clamping: extent.offset), Int64(clamping: extent.length))
          }
          if extents.isEmpty, size > 0 { archive_entry_sparse_add_entry(entry, Int64(clamping: size), 0) }
        }
        try writeContents(size, extents, reader)
      case .symbolicLink(_, let metadata, let target):
        try writeHeader(levels, FileKind.symbolicLink, metadata) { archive_entry_set_symlink($0, target.asName) }
      case .fifo(_, let metadata): try writeHeader(levels, FileKind.fifo, metadata)
      case .hardLink(_, let target):
        try writeHeader(levels, FileKind.regular, nil) {
          archive_entry_set_hardlink($0, Self.path(target))
        }
      case .data: throw Self.malformed("contents belong to no file")
      case .end(let entries, let bytes):
        guard levels.isEmpty, entries == summary.entries, bytes == summary.bytes else {
          throw Self.malformed("it ends before everything came")
        }
        return
      case .failed: throw OtherEndFailed()
      }
      if case .directory = record {} else { levels.removeLast() }
      summary.entries += 1
      try progress(summary)
    }
  }

  private func writeHeader(
    _ path: [[UInt8]], _ kind: UInt32, _ metadata: TreeMetadata?, _ fill: (OpaquePointer) -> Void = { _ in }
  ) throws {
    guard let entry = archive_entry_new() else { throw Failure("write", "the archive", "out of memory") }
    defer { archive_entry_free(entry) }
    let name = Self.path(path)
    archive_entry_set_pathname(entry, name)
    archive_entry_set_filetype(entry, kind)
    archive_entry_set_size(entry, 0)
    fill(entry)
    if let metadata {
      let shown = String(decoding: Array(path.joined(separator: [47])), as: UTF8.self)
      let admitted = try policy.admit(metadata, isRegular: kind == FileKind.regular, path: shown)
      archive_entry_set_perm(entry, admitted.permissions)
      archive_entry_set_uid(entry, Int64(admitted.owner))
      archive_entry_set_gid(entry, Int64(admitted.group))
      archive_entry_set_mtime(entry, time_t(admitted.seconds), Int(admitted.nanoseconds))
      for attribute in admitted.attributes { try add(attribute, entry, shown) }
    }
    try check(archive_write_header(archive, entry))
  }

  private func add(_ attribute: TreeMetadata.Attribute, _ entry: OpaquePointer, _ shown: String) throws {
    let name = String(decoding: attribute.name, as: UTF8.self)
    guard name == AttributeIDs.accessACL || name == AttributeIDs.defaultACL else {
      archive_entry_xattr_add_entry(entry, attribute.name.asName, attribute.value, attribute.value.count)
      return
    }
    guard let lines = try? ACLBytes.decode(attribute.value) else {
      throw Failure("copy", shown, "its attribute \(name) is malformed")
    }
    let type = name == AttributeIDs.accessACL ? ARCHIVE_ENTRY_ACL_TYPE_ACCESS : ARCHIVE_ENTRY_ACL_TYPE_DEFAULT
    // The kernel's tags, and libarchive's.
    let tags: [UInt16: Int32] = [0x02: 10001, 0x01: 10002, 0x08: 10003, 0x04: 10004, 0x10: 10005, 0x20: 10006]
    for line in lines {
      guard let tag = tags[line.tag] else { continue }
      let isNamed = line.tag == 0x02 || line.tag == 0x08
      archive_entry_acl_add_entry(
        entry, type, Int32(line.permissions), tag, isNamed ? Int32(clamping: line.id ?? -1) : -1, nil)
    }
  }

  private func writeContents(_ size: UInt64, _ extents: [TreeExtent], _ reader: TreeReader) throws {
    var position: UInt64 = 0
    for extent in extents {
      try writeZeros(extent.offset - position)
      var done: UInt64 = 0
      while done < extent.length {
        guard case .data(let count) = try reader.next(), UInt64(count) <= extent.length - done else {
          throw Self.malformed("the contents of a file do not fit it")
        }
        try reader.forEachPiece { try write($0) }
        done += UInt64(count)
        summary.bytes += UInt64(count)
        try progress(summary)
      }
      position = extent.offset + extent.length
    }
    try writeZeros(size - position)
  }

  /// libarchive wants holes as zeros, and leaves them out.
  private func writeZeros(_ count: UInt64) throws {
    guard count > 0 else { return }
    guard let zeros = holes?.zeros else { throw Failure("write", "the archive", "out of memory") }
    var left = count
    while left > 0 {
      let piece = Int(min(left, UInt64(zeros.count)))
      try write(UnsafeRawBufferPointer(rebasing: zeros[..<piece]))
      left -= UInt64(piece)
    }
  }

  private func write(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
      let count = archive_write_data(
        archive, UnsafeRawBufferPointer(rebasing: bytes[done...]).baseAddress, bytes.count - done)
      guard count > 0 else { throw failure() }
      done += count
    }
  }

  private func check(_ result: Int32) throws {
    if result < ARCHIVE_WARN { throw failure() }
  }

  private func failure() -> Failure {
    let text = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
    return Failure("write", "the archive", text)
  }

  private static func path(_ names: [[UInt8]]) -> [CChar] { Array(names.joined(separator: [47])).asName }

  private static func malformed(_ reason: String) -> Failure { Failure("read", "the stream of the copy", reason) }
}

/// Zeros without memory behind them: a gibibyte at a time, the largest of holes is skipped in no time. The
/// corresponding C function is `mmap`.
private final class Holes {
  let zeros: UnsafeRawBufferPointer

  init() throws(Failure) {
    let size = 1 << 30
    let place = mmap(nil, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let place, place != MAP_FAILED else { throw Failure("write", "the archive", "out of memory") }
    zeros = UnsafeRawBufferPointer(start: place, count: size)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: zeros.baseAddress), zeros.count) }
}
