import CLinux
import Glibc
import SystemPackage

/// An open file descriptor that closes itself when the last reference to it goes.
public final class Descriptor: Sendable {
  /// The number, valid as long as this object lives.
  public let raw: Int32

  /// Takes ownership of an open descriptor.
  public init(adopting raw: Int32) {
    self.raw = raw
  }

  deinit {
    _ = close(raw)
  }

  /// The path by which the kernel shows this descriptor to its own process; safe to act on, because it leads to the
  /// open file itself and not to a name.
  public var selfPath: String { "/proc/self/fd/\(raw)" }

  /// Makes a second descriptor for the same open file. The corresponding C function is `fcntl(F_DUPFD_CLOEXEC)`.
  ///
  /// - Throws: `Failure` when the table of descriptors is full.
  public func duplicate() throws(Failure) -> Descriptor {
    Descriptor(adopting: try check(fcntl(raw, F_DUPFD_CLOEXEC, 3), "duplicate a descriptor"))
  }
}

/// The one funnel for system calls that answer -1 and set errno.
///
/// - Parameters:
///   - result: what the call returned.
///   - operation: what was being done, in the infinitive.
///   - subject: the path or name that it was done to.
/// - Returns: the result, when it is not negative.
/// - Throws: `Failure` with the kernel's error number.
@discardableResult
public func check<Result: FixedWidthInteger>(
  _ result: Result, _ operation: @autoclosure () -> String, _ subject: @autoclosure () -> String? = nil
) throws(Failure) -> Result {
  // Read before anything else: forming the message may allocate, and that may change it.
  let number = errno
  if result < 0 { throw Failure(operation(), subject(), errno: Errno(rawValue: number)) }
  return result
}

/// Descriptor flags of `open(2)`, those of them that are used here.
public struct OpenFlags: OptionSet, Sendable {
  /// The bits of `open(2)`.
  public let rawValue: Int32
  /// Wraps bits of `open(2)`.
  public init(rawValue: Int32) { self.rawValue = rawValue }

  /// For reading only; the default.
  public static let read = OpenFlags([])
  /// For writing only.
  public static let write = OpenFlags(rawValue: O_WRONLY)
  /// For reading and writing.
  public static let readWrite = OpenFlags(rawValue: O_RDWR)
  /// A reference to a place in the tree that can neither be read nor written: `O_PATH`.
  public static let path = OpenFlags(rawValue: clinux_o_path)
  /// Only a directory will do.
  public static let directory = OpenFlags(rawValue: clinux_o_directory)
  /// A symbolic link at the end is an error, or with `path` is opened itself.
  public static let noFollow = OpenFlags(rawValue: clinux_o_nofollow)
  /// Make the file when it is not there.
  public static let create = OpenFlags(rawValue: O_CREAT)
  /// Fail when it is there already.
  public static let exclusive = OpenFlags(rawValue: O_EXCL)
  /// Empty it first.
  public static let truncate = OpenFlags(rawValue: O_TRUNC)
  /// Write at the end.
  public static let append = OpenFlags(rawValue: O_APPEND)
  /// Do not wait, neither in opening nor later.
  public static let nonBlocking = OpenFlags(rawValue: O_NONBLOCK)
}

/// Where a lookup beneath a directory may go.
public enum Lookup: Sendable {
  /// As the kernel always does. Only for paths that no image and no machine controls.
  case trusted
  /// Never outside the directory, and through no symbolic link at all.
  case beneath
  /// The same, and into nothing that is mounted over what is in the directory.
  case sameMount
  /// As if the directory were the root: absolute links and `..` stay inside.
  case inRoot

  var resolve: UInt64 {
    switch self {
    case .trusted: 0
    case .beneath: clinux_resolve_beneath | clinux_resolve_no_symlinks | clinux_resolve_no_magiclinks
    case .sameMount:
      clinux_resolve_beneath | clinux_resolve_no_symlinks | clinux_resolve_no_magiclinks | clinux_resolve_no_xdev
    case .inRoot: clinux_resolve_in_root | clinux_resolve_no_magiclinks
    }
  }
}

extension Descriptor {
  /// The current directory of the process, as a starting point for `open`. Never closed.
  public static let currentDirectory = Descriptor(adopting: AT_FDCWD)

  /// Opens a path from the host's root or, when relative, the current directory.
  public static func open(
    _ path: String, _ flags: OpenFlags = .read, mode: UInt32 = 0
  ) throws(Failure) -> Descriptor {
    try currentDirectory.open(path, flags, lookup: .trusted, mode: mode)
  }

  /// Opens a path as seen from this directory. The corresponding system call is `openat2`.
  ///
  /// - Parameters:
  ///   - path: relative to this directory; with all but `.trusted` a leading `/` means this directory.
  ///   - flags: as for `open(2)`; close-on-exec is always added, and that a terminal is not made our own.
  ///   - lookup: where the lookup may go.
  ///   - mode: permission bits of a file that is made.
  /// - Throws: `Failure` that names the path; with `.beneath` a symbolic link on the way is `ELOOP`.
  public func open(
    _ path: String, _ flags: OpenFlags = .read, lookup: Lookup, mode: UInt32 = 0
  ) throws(Failure) -> Descriptor {
    let relative = lookup == .beneath || lookup == .sameMount ? Self.relative(path) : path
    return Descriptor(
      adopting: try check(clinux_open_beneath(raw, relative, flags.rawValue, mode, lookup.resolve), "open", path))
  }

  /// The path without leading slashes, `.` for the directory itself: `RESOLVE_BENEATH` refuses absolute paths.
  static func relative(_ path: String) -> String {
    let stripped = path.drop { $0 == "/" }
    return stripped.isEmpty ? "." : String(stripped)
  }

  /// What the descriptor refers to. The corresponding C function is `fstat`.
  public func status() throws(Failure) -> FileStatus {
    var native = clinux_status()
    try check(clinux_status(raw, "", &native), "look at a descriptor")
    return FileStatus(native: native)
  }

  /// What a name in this directory refers to, a symbolic link itself included; nil when there is none.
  public func status(of name: String) throws(Failure) -> FileStatus? {
    var native = clinux_status()
    if clinux_status(raw, name, &native) < 0 {
      if Glibc.errno == ENOENT { return nil }
      throw Failure("look at", name, errno: Errno(rawValue: Glibc.errno))
    }
    return FileStatus(native: native)
  }
}

/// The part of `struct stat` that is used here.
public struct FileStatus: Sendable, Equatable {
  /// The kind of a file.
  public enum Kind: Sendable {
    case regular, directory, symbolicLink, characterDevice, blockDevice, fifo, socket, other
  }
  /// The kind of the file.
  public let kind: Kind
  /// Permission bits, set-id bits and the sticky bit.
  public let mode: UInt32
  /// The owner's id on this host.
  public let uid: UInt32
  /// The group's id on this host.
  public let gid: UInt32
  /// The number of the inode.
  public let inode: UInt64
  /// The device that holds the file.
  public let device: UInt64
  /// The size in bytes.
  public let size: UInt64
  /// For a device node, its major number.
  public let major: UInt32
  /// For a device node, its minor number.
  public let minor: UInt32

  init(native: clinux_status) {
    kind =
      switch native.mode & 0o170000 {
      case 0o100000: .regular
      case 0o040000: .directory
      case 0o120000: .symbolicLink
      case 0o020000: .characterDevice
      case 0o060000: .blockDevice
      case 0o010000: .fifo
      case 0o140000: .socket
      default: .other
      }
    mode = native.mode & 0o7777
    uid = native.uid
    gid = native.gid
    inode = native.inode
    device = native.device
    size = native.size
    major = native.rdev_major
    minor = native.rdev_minor
  }
}
