import CLinux
import Linux

/// Opens paths that somebody else chose, beneath a directory and without ever following a link.
package enum Beneath {
  private static let longest = 4000

  /// Opens a relative path of any length: no component may be a symbolic link, `..` or a mount.
  ///
  /// The corresponding call is `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
  /// RESOLVE_NO_XDEV`, made piece by piece when the path is longer than the kernel takes.
  ///
  /// - Parameters:
  ///   - directory: where the path begins.
  ///   - relative: the path, ended by NUL; empty means the directory itself.
  ///   - flags: how to open the last component.
  ///   - path: names the file in an error.
  package static func open(
    _ directory: Int32, _ relative: [CChar], _ flags: Int32, path: @autoclosure () -> String
  ) throws(Failure) -> OwnedDescriptor {
    OwnedDescriptor(try Calls.check(tryOpen(directory, relative, flags), "open", path()))
  }

  /// The same, giving the negative error number instead of throwing.
  package static func tryOpen(_ directory: Int32, _ relative: [CChar], _ flags: Int32) -> Int32 {
    let resolve =
      CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_MAGICLINKS | CLINUX_RESOLVE_NO_XDEV
    let flags = flags | CLINUX_O_NOFOLLOW
    var rest = relative[...]
    while rest.last == 0 || rest.last == 47 { rest = rest.dropLast() }
    if rest.isEmpty { return clinux_openat2(directory, ".", flags, 0, resolve) }
    var at = directory
    defer { if at != directory { clinux_close(at) } }
    while rest.count > longest {
      // The last slash that keeps the piece short enough; a component cannot be longer than a piece.
      guard let slash = rest.prefix(longest).lastIndex(of: 47) else { return -36 }
      let piece = Array(rest[..<slash]) + [0]
      let next = clinux_openat2(at, piece, CLINUX_O_PATH | CLINUX_O_DIRECTORY | CLINUX_O_NOFOLLOW, 0, resolve)
      if next < 0 { return next }
      if at != directory { clinux_close(at) }
      at = next
      rest = rest[(slash + 1)...]
    }
    return clinux_openat2(at, Array(rest) + [0], flags, 0, resolve)
  }
}
