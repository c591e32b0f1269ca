import CLibarchive
import Glibc
import Images
import Linux

/// Reads tar archives by libarchive: plain, or packed with gzip, xz, zstd or bzip2, and nothing else.
///
/// It only reads. No program is ever run for a filter that the library lacks: such a library is refused.
final class TarReader {
  private static let blockSize = 1 << 18

  private let archive: OpaquePointer
  private let path: String
  private var endOfLast: Int64 = 0

  /// Starts reading.
  ///
  /// - Parameters:
  ///   - descriptor: the archive, which may be a pipe; it stays the caller's.
  ///   - path: names the archive in errors.
  init(_ descriptor: Int32, path: String) throws(Failure) {
    // Names come as bytes: in the C locale libarchive would refuse every one that is not ASCII.
    setlocale(LC_CTYPE, "C.UTF-8")
    guard let archive = archive_read_new() else { throw Failure("read", path, "out of memory") }
    self.archive = archive
    self.path = path
    for support in [
      archive_read_support_format_tar, archive_read_support_filter_gzip, archive_read_support_filter_xz,
      archive_read_support_filter_zstd, archive_read_support_filter_bzip2,
    ] where support(archive) != ARCHIVE_OK {
      throw Failure("read", path, "this libarchive lacks one of tar, gzip, xz, zstd, bzip2", kind: .refused)
    }
    if archive_read_open_fd(archive, descriptor, Self.blockSize) != ARCHIVE_OK { throw failure() }
  }

  deinit { archive_read_free(archive) }

  /// Bytes of the file that were read so far, packed as they are.
  var packedBytes: UInt64 { UInt64(clamping: archive_filter_bytes(archive, -1)) }

  /// The next entry; nil at the archive's end mark.
  func next() throws(Failure) -> TarEntry? {
    // Past the data of the entry before, to know where the end mark would have to begin.
    if endOfLast > 0 && archive_read_data_skip(archive) < ARCHIVE_WARN { throw failure() }
    endOfLast = archive_filter_bytes(archive, 0)
    var pointer: OpaquePointer?
    let result = archive_read_next_header(archive, &pointer)
    if result == ARCHIVE_EOF {
      // libarchive takes an end without a mark for an end. The mark is at least one block of 512 zeros, and what fills
      // up the last entry's data is shorter than that.
      if archive_filter_bytes(archive, 0) - endOfLast < 512 {
        throw Failure("read", path, "it ends without an end mark: it is cut off", advice: "get the whole file")
      }
      return nil
    }
    guard result >= ARCHIVE_WARN, let pointer else { throw failure() }
    endOfLast = max(1, archive_filter_bytes(archive, 0))
    return try entry(pointer)
  }

  /// Calls `body` with each piece of the current entry's contents and its offset; holes are left out.
  func forEachBlock(_ body: (UnsafeRawBufferPointer, Int64) throws -> Void) throws {
    while true {
      var buffer: UnsafeRawPointer?
      var size = 0
      var offset: Int64 = 0
      let result = archive_read_data_block(archive, &buffer, &size, &offset)
      if result == ARCHIVE_EOF { return }
      if result < ARCHIVE_WARN { throw failure() }
      if size > 0 { try body(UnsafeRawBufferPointer(start: buffer, count: size), offset) }
    }
  }

  private func failure() -> Failure {
    let text = archive_error_string(archive).map { String(cString: $0) } ?? "unknown error"
    if text.hasPrefix("Unrecognized archive format") {
      return Failure("read", path, "it is no tar archive, plain or packed with gzip, xz, zstd or bzip2")
    }
    return Failure("read", path, "it is cut off or damaged (\(text))", advice: "get the whole file")
  }

  private func entry(_ pointer: OpaquePointer) throws(Failure) -> TarEntry {
    guard let name = archive_entry_pathname(pointer) ?? archive_entry_pathname_utf8(pointer) else {
      throw Failure("read", path, "an entry's name cannot be read")
    }
    let hardLink = archive_entry_hardlink(pointer) ?? archive_entry_hardlink_utf8(pointer)
    let symbolicLink = archive_entry_symlink(pointer) ?? archive_entry_symlink_utf8(pointer)
    return TarEntry(
      path: Self.bytes(name), kind: UInt32(archive_entry_filetype(pointer)),
      permissions: UInt32(archive_entry_perm(pointer)) & 0o7777,
      owner: archive_entry_uid(pointer), group: archive_entry_gid(pointer), size: archive_entry_size(pointer),
      seconds: Int64(archive_entry_mtime(pointer)),
      nanoseconds: UInt32(clamping: min(max(archive_entry_mtime_nsec(pointer), 0), 999_999_999)),
      hardLink: hardLink.map(Self.bytes), symbolicLink: symbolicLink.map(Self.bytes) ?? [],
      nodeMajor: UInt32(truncatingIfNeeded: archive_entry_rdevmajor(pointer)),
      nodeMinor: UInt32(truncatingIfNeeded: archive_entry_rdevminor(pointer)),
      attributes: Self.attributes(pointer), accessACL: Self.acl(pointer, ARCHIVE_ENTRY_ACL_TYPE_ACCESS),
      defaultACL: Self.acl(pointer, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT), extents: Self.extents(pointer))
  }

  private static func extents(_ entry: OpaquePointer) -> [(offset: Int64, length: Int64)] {
    var result: [(offset: Int64, length: Int64)] = []
    if archive_entry_sparse_reset(entry) == 0 { return result }
    var offset: Int64 = 0
    var length: Int64 = 0
    while archive_entry_sparse_next(entry, &offset, &length) == ARCHIVE_OK { result.append((offset, length)) }
    return result
  }

  private static func bytes(_ text: UnsafePointer<CChar>) -> [UInt8] {
    DirectoryReader.copy(text).dropLast().map { UInt8(bitPattern: $0) }
  }

  private static func attributes(_ entry: OpaquePointer) -> [(name: [UInt8], value: [UInt8])] {
    var result: [(name: [UInt8], value: [UInt8])] = []
    if archive_entry_xattr_reset(entry) == 0 { return result }
    var name: UnsafePointer<CChar>?
    var value: UnsafeRawPointer?
    var size = 0
    while archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK {
      guard let name else { continue }
      result.append((bytes(name), Array(UnsafeRawBufferPointer(start: value, count: value == nil ? 0 : size))))
    }
    return result
  }

  private static func acl(_ entry: OpaquePointer, _ type: Int32) -> [TarEntry.ACLLine] {
    // libarchive's tags, from 10001, and the kernel's.
    let tags: [Int32: UInt16] = [10001: 0x02, 10002: 0x01, 10003: 0x08, 10004: 0x04, 10005: 0x10, 10006: 0x20]
    var result: [TarEntry.ACLLine] = []
    // For the access list the three lines that a mode has count as one ACL too: no list at all then.
    if archive_entry_acl_reset(entry, type) <= (type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS ? 3 : 0) { return [] }
    var lineType: Int32 = 0
    var permissions: Int32 = 0
    var tag: Int32 = 0
    var id: Int32 = 0
    var name: UnsafePointer<CChar>?
    while archive_entry_acl_next(entry, type, &lineType, &permissions, &tag, &id, &name) == ARCHIVE_OK {
      guard let kernelTag = tags[tag] else { continue }
      result.append(
        TarEntry.ACLLine(
          tag: kernelTag, permissions: UInt16(truncatingIfNeeded: permissions & 7), id: id < 0 ? nil : Int64(id),
          name: name.map(bytes) ?? []))
    }
    return result
  }
}
