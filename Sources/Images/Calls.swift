import CLinux
import Linux
import SystemPackage

/// A file name as the kernel takes it: one component, ended by NUL.
package typealias Name = [CChar]

/// The kernel's calls on files, with errors as `Failure`. Every one acts on a descriptor, or on one name in a directory
/// that a descriptor stands for.
package enum Calls {
  /// The empty name: the descriptor itself.
  package static let itself: Name = [0]

  /// Turns a negative error number into a failure.
  ///
  /// - Parameters:
  ///   - result: what a `clinux_` call returned.
  ///   - operation: what was being done.
  ///   - path: names what it was done to; only called on failure.
  @inline(__always) @discardableResult
  package static func check<T: FixedWidthInteger>(
    _ result: T, _ operation: @autoclosure () -> String, _ path: @autoclosure () -> String
  ) throws(Failure) -> T {
    if result < 0 { throw failure(-Int32(truncatingIfNeeded: result), operation(), path()) }
    return result
  }

  /// The failure for an error number, with the advice that fits it.
  package static func failure(_ number: Int32, _ operation: String, _ path: String) -> Failure {
    let errno = Errno(rawValue: number)
    let advice: String? =
      switch errno {
      case .noSpace: "make room on the file system and try again"
      case .diskQuotaExceeded: "raise the quota or make room, and try again"
      case .readOnlyFileSystem: "make the file system writable"
      case .tooManyOpenFiles: "raise the limit on open files (ulimit -n)"
      default: nil
      }
    return Failure(operation, path, errno: errno, advice: advice)
  }

  /// Opens one name without following it.
  package static func open(
    _ directory: Int32, _ name: UnsafePointer<CChar>, _ flags: Int32, mode: UInt32 = 0,
    path: @autoclosure () -> String
  ) throws(Failure) -> OwnedDescriptor {
    OwnedDescriptor(try check(clinux_openat(directory, name, flags, mode), "open", path()))
  }

  /// The attributes of a name that is not followed, or of the descriptor itself.
  package static func stat(
    _ directory: Int32, _ name: UnsafePointer<CChar>, path: @autoclosure () -> String
  ) throws(Failure) -> clinux_stat {
    var result = clinux_stat()
    try check(clinux_statx(directory, name, &result), "read the attributes of", path())
    return result
  }

  /// Writes all of a buffer.
  package static func writeAll(
    _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, path: @autoclosure () -> String
  ) throws(Failure) {
    var done = 0
    while done < bytes.count {
      done += try check(
        clinux_write(descriptor, UnsafeRawBufferPointer(rebasing: bytes[done...]).baseAddress, bytes.count - done),
        "write", path())
    }
  }

  /// Writes all of a buffer at an offset.
  package static func writeAll(
    _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int64, path: @autoclosure () -> String
  ) throws(Failure) {
    var done = 0
    while done < bytes.count {
      done += try check(
        clinux_pwrite(
          descriptor, UnsafeRawBufferPointer(rebasing: bytes[done...]).baseAddress, bytes.count - done,
          offset + Int64(done)), "write", path())
    }
  }

  /// Reads a whole regular file, refusing one that is larger than `limit` bytes.
  package static func readAll(
    _ descriptor: Int32, limit: Int, path: @autoclosure () -> String
  ) throws(Failure) -> [UInt8] {
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = try check(clinux_read(descriptor, &chunk, chunk.count), "read", path())
      if count == 0 { return result }
      result += chunk[..<count]
      if result.count > limit { throw Failure("read", path(), "it is larger than \(limit) bytes") }
    }
  }
}

/// A descriptor that is closed when its owner goes.
package struct OwnedDescriptor: ~Copyable {
  package let raw: Int32

  package init(_ raw: Int32) { self.raw = raw }

  deinit { if raw >= 0 { clinux_close(raw) } }

  /// Gives the descriptor up to somebody who closes it.
  package consuming func release() -> Int32 {
    let value = raw
    discard self
    return value
  }
}

extension clinux_stat {
  /// The bits of the mode that say what kind of file it is.
  package var kind: UInt32 { mode & FileKind.mask }
  package var isDirectory: Bool { kind == FileKind.directory }
  package var isRegular: Bool { kind == FileKind.regular }
  package var isSymbolicLink: Bool { kind == FileKind.symbolicLink }
  package var permissions: UInt32 { mode & 0o7777 }
  package var isImmutable: Bool { attributes & CLINUX_STAT_IMMUTABLE != 0 }
  package var isAppendOnly: Bool { attributes & CLINUX_STAT_APPEND != 0 }
  package var identity: FileIdentity { FileIdentity(device: device, inode: inode) }
}

/// The kinds of file in a mode.
package enum FileKind {
  package static let mask: UInt32 = 0o170000
  package static let socket: UInt32 = 0o140000
  package static let symbolicLink: UInt32 = 0o120000
  package static let regular: UInt32 = 0o100000
  package static let blockDevice: UInt32 = 0o060000
  package static let directory: UInt32 = 0o040000
  package static let characterDevice: UInt32 = 0o020000
  package static let fifo: UInt32 = 0o010000
}

/// What makes a file the same file.
package struct FileIdentity: Hashable, Sendable {
  package var device: UInt64
  package var inode: UInt64

  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }
}

extension String {
  /// A name or a path of the file system as text, whatever its bytes are.
  package init(name: UnsafePointer<CChar>) {
    var length = 0
    while name[length] != 0 { length += 1 }
    self = name.withMemoryRebound(to: UInt8.self, capacity: length) {
      String(decoding: UnsafeBufferPointer(start: $0, count: length), as: UTF8.self)
    }
  }

  /// The bytes of the string with the NUL that the kernel wants.
  package var asName: Name { utf8.map { CChar(bitPattern: $0) } + [0] }
}
