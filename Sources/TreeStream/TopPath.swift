import CLinux
import Images
import Linux

/// An operator's path: a folder, held open, and a name in it. The one place where links are followed.
package struct TopPath: ~Copyable {
  /// Where a path is looked up.
  package enum Side: Sendable {
    /// On the host, by the operator's own rights.
    case host
    /// In the machine that this process has joined: links are the machine's, and those of `/proc` that lead to what
    /// this process has open, and not to a name, are refused.
    case machine

    var resolve: UInt64 { self == .machine ? CLINUX_RESOLVE_NO_MAGICLINKS : 0 }
  }

  /// The folder.
  package let folder: OwnedDescriptor
  /// The name in it, ended by NUL; `.` for a link that was followed.
  package let name: Name
  /// What it is called in the stream.
  package let label: [UInt8]

  init(folder: consuming OwnedDescriptor, name: Name, label: [UInt8]) {
    self.folder = folder
    self.name = name
    self.label = label
  }

  /// Finds what is to be copied. A link at the end stands for itself, unless a slash follows it.
  init(source path: String, on side: Side) throws(Failure) {
    guard let (folder, name) = Self.split(path) else {
      throw Failure("copy", path, "it has no name of its own", advice: "name what is in it", kind: .usage)
    }
    let followed = path.hasSuffix("/")
    self.init(
      folder: try Self.openFolder(followed ? path : folder, on: side), name: followed ? ".".asName : name.asName,
      label: Array(name.utf8))
  }

  /// Takes a path apart; nil when it ends in nothing, `.` or `..`.
  static func split(_ path: String) -> (folder: String, name: String)? {
    var end = path.utf8.endIndex
    let bytes = path.utf8
    while end > bytes.startIndex, bytes[bytes.index(before: end)] == 47 { end = bytes.index(before: end) }
    let whole = path[..<end]
    let start = whole.utf8.lastIndex(of: 47).map { whole.utf8.index(after: $0) } ?? whole.startIndex
    let name = String(whole[start...])
    if name.isEmpty || name == "." || name == ".." { return nil }
    return (trimmed(String(whole[..<start])), name)
  }

  /// A folder's path without the slashes at its end; `.` for an empty one.
  static func trimmed(_ path: String) -> String {
    if path.isEmpty { return "." }
    var bytes = Array(path.utf8)
    while bytes.count > 1, bytes.last == 47 { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Opens a folder by the operator's path.
  static func openFolder(_ path: String, on side: Side) throws(Failure) -> OwnedDescriptor {
    OwnedDescriptor(try Calls.check(tryOpenFolder(path, on: side), "open the folder", path))
  }

  static func tryOpenFolder(_ path: String, on side: Side) -> Int32 {
    clinux_openat2(currentDirectory, path, CLINUX_O_DIRECTORY | CLINUX_O_NONBLOCK, 0, side.resolve)
  }

  private static let currentDirectory: Int32 = -100
}
