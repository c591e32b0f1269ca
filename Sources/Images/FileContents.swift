import CLinux
import Linux

/// Copies what is in a regular file: shared blocks where the file system can, holes kept where it cannot.
final class FileContents {
  private static let piece = 16 << 20

  // What the file systems were found unable to do, so that it is not asked again for every file.
  private var canClone = true
  private var canCopyRange = true
  private var buffer: [UInt8] = []

  /// Copies a file's contents into a new, empty one.
  ///
  /// - Parameters:
  ///   - source: open for reading.
  ///   - target: open for writing, empty.
  ///   - size: the length that the target gets, in bytes; what the source grew by since is left out.
  ///   - path: names the file in an error.
  ///   - progress: called with the number of bytes of each piece.
  func copy(
    _ source: Int32, _ target: Int32, size: UInt64, path: @autoclosure () -> String, progress: (UInt64) throws -> Void
  ) throws {
    guard let size = Int64(exactly: size), size > 0 else { return }
    if canClone {
      if clinux_ficlone(target, source) == 0 {
        try Calls.check(clinux_ftruncate(target, size), "set the length of", path())
        return try progress(UInt64(size))
      }
      // Whatever the reason, the way below reports it better.
      canClone = false
    }
    var offset: Int64 = 0
    while offset < size {
      var data = clinux_seek_data(source, offset)
      // ENXIO: nothing but a hole to the end.
      if data == -6 { break }
      if data < 0 { data = offset }
      if data >= size { break }
      var end = clinux_seek_hole(source, data)
      if end < 0 || end > size { end = size }
      if end <= data { break }
      try copyRange(source, target, data, end, path: path(), progress)
      offset = end
    }
    try Calls.check(clinux_ftruncate(target, size), "set the length of", path())
  }

  private func copyRange(
    _ source: Int32, _ target: Int32, _ start: Int64, _ end: Int64, path: @autoclosure () -> String,
    _ progress: (UInt64) throws -> Void
  ) throws {
    var offset = start
    while offset < end && canCopyRange {
      let count = clinux_copy_file_range(source, offset, target, offset, Int(min(end - offset, Int64(Self.piece))))
      if count < 0 {
        // ENOSPC, EIO, EDQUOT, EFBIG are answers; everything else (EXDEV, EINVAL, EOPNOTSUPP…) is "not this way".
        if [-28, -5, -122, -27].contains(count) { try Calls.check(count, "write", path()) }
        canCopyRange = false
        break
      }
      // The source became shorter, or is one of those files that copy_file_range sees as empty.
      if count == 0 { break }
      offset += Int64(count)
      try progress(UInt64(count))
    }
    if buffer.isEmpty && offset < end { buffer = [UInt8](repeating: 0, count: 1 << 18) }
    while offset < end {
      let count = try Calls.check(
        clinux_pread(source, &buffer, Int(min(end - offset, Int64(buffer.count))), offset), "read", path())
      if count == 0 { break }
      try buffer.withUnsafeBytes {
        try Calls.writeAll(target, UnsafeRawBufferPointer(rebasing: $0[..<count]), at: offset, path: path())
      }
      offset += Int64(count)
      try progress(UInt64(count))
    }
  }
}
