/// An entry of an archive, as it says of itself: nothing in here was checked.
struct TarEntry {
  /// One line of a POSIX ACL, with the kernel's tags and permissions.
  struct ACLLine {
    var tag: UInt16
    var permissions: UInt16
    /// Nil when the archive only has a name.
    var id: Int64?
    var name: [UInt8]
  }

  var path: [UInt8]
  /// The bits of the mode that say what kind of file it is.
  var kind: UInt32
  var permissions: UInt32
  var owner: Int64
  var group: Int64
  var size: Int64
  var seconds: Int64
  var nanoseconds: UInt32
  var hardLink: [UInt8]?
  var symbolicLink: [UInt8]
  var nodeMajor: UInt32
  var nodeMinor: UInt32
  var attributes: [(name: [UInt8], value: [UInt8])]
  var accessACL: [ACLLine]
  var defaultACL: [ACLLine]
  /// Where a sparse file has contents; none for one that is not sparse.
  var extents: [(offset: Int64, length: Int64)] = []
}
