import CLinux
import Images
import Linux

/// Where a file has contents, found out before they are read: the stream tells it first.
struct FileExtents {
  /// A file without a size that has contents all the same, as those of `/proc`, is taken up to so many bytes.
  private static let largestUnsized = 16 << 20

  let size: UInt64
  let extents: [TreeExtent]
  /// Contents that had to be read to know their size.
  private let known: [UInt8]

  /// Looks at an open regular file.
  init(_ file: Int32, _ stat: clinux_stat, path: @autoclosure () -> String) throws(Failure) {
    guard stat.size <= TreeLimits.size else { throw Failure("copy", path(), "it is larger than a file can be") }
    if stat.size == 0 {
      known = try Self.readUnsized(file, path: path())
      size = UInt64(known.count)
      extents = known.isEmpty ? [] : [TreeExtent(offset: 0, length: size)]
      return
    }
    known = []
    size = stat.size
    let whole = [TreeExtent(offset: 0, length: stat.size)]
    extents = stat.blocks >= stat.size / 512 ? whole : Self.find(file, Int64(clamping: stat.size)) ?? whole
  }

  func read(
    _ file: Int32, _ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64, path: @autoclosure () -> String
  ) throws(Failure) -> Int {
    if known.isEmpty {
      return try Calls.check(
        clinux_pread(file, buffer.baseAddress, buffer.count, Int64(clamping: offset)), "read", path())
    }
    guard offset < UInt64(known.count) else { return 0 }
    let piece = known[Int(offset)...].prefix(buffer.count)
    buffer.copyBytes(from: piece)
    return piece.count
  }

  private static func readUnsized(_ file: Int32, path: @autoclosure () -> String) throws(Failure) -> [UInt8] {
    var probe: UInt8 = 0
    // Nearly always it is just empty.
    if try Calls.check(clinux_pread(file, &probe, 1, 0), "read", path()) == 0 { return [] }
    return try Calls.readAll(file, limit: largestUnsized, path: path())
  }

  /// Asks the file system, which may be the machine's own and lie: every step goes forward or ends it.
  private static func find(_ file: Int32, _ size: Int64) -> [TreeExtent]? {
    var result: [TreeExtent] = []
    var offset: Int64 = 0
    while offset < size {
      let data = clinux_seek_data(file, offset)
      // ENXIO: nothing but a hole to the end.
      if data == -6 { break }
      guard data >= offset else { return nil }
      if data >= size { break }
      var end = clinux_seek_hole(file, data)
      if end <= data || end > size { end = size }
      // The last of too many takes all that follows.
      if result.count == TreeLimits.extents - 1 { end = size }
      result.append(TreeExtent(offset: UInt64(data), length: UInt64(end - data)))
      offset = end
    }
    return result
  }
}
