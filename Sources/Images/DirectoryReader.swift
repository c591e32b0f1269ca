import CLinux
import Linux

/// Reads directories through one large buffer, `getdents64` as few times as may be.
///
/// The buffer is shared by every directory that is read with it, so a body must not read another directory with the
/// same reader: names of directories are kept for later instead. That also bounds the memory of a deep tree.
package final class DirectoryReader {
  private static let size = 128 * 1024
  private let buffer = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)

  package init() {}

  deinit { buffer.deallocate() }

  /// Calls `body` with each name and its `d_type`, `.` and `..` left out.
  ///
  /// - Parameters:
  ///   - directory: an open directory; it is read from where it stands.
  ///   - path: names it in an error.
  ///   - body: the name is valid only during the call.
  package func forEach(
    _ directory: Int32, path: @autoclosure () -> String,
    _ body: (UnsafePointer<CChar>, UInt8) throws -> Void
  ) throws {
    while true {
      let length = try Calls.check(clinux_getdents64(directory, buffer, Self.size), "list", path())
      if length == 0 { return }
      var offset = 0
      // The kernel's own records: inode (8), offset (8), length (2), type (1), name.
      while offset + 20 <= length {
        let record = buffer + offset
        let step = Int(record.load(fromByteOffset: 16, as: UInt16.self))
        if step < 20 || offset + step > length { break }
        let name = (record + 19).assumingMemoryBound(to: CChar.self)
        let isDot = name[0] == 46 && (name[1] == 0 || (name[1] == 46 && name[2] == 0))
        if !isDot { try body(name, (record + 18).load(as: UInt8.self)) }
        offset += step
      }
    }
  }

  /// Copies a name out of the buffer.
  package static func copy(_ name: UnsafePointer<CChar>) -> Name {
    var length = 0
    while name[length] != 0 { length += 1 }
    return Name(UnsafeBufferPointer(start: name, count: length + 1))
  }

  /// `DT_UNKNOWN`: the file system does not say.
  package static let unknownType: UInt8 = 0
  /// `DT_DIR`.
  package static let directoryType: UInt8 = 4
}
