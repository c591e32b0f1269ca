/// What a stream of trees is made of. A tree comes depth first: a directory, what is in it, and the leaving of it.
package enum TreeRecord: Equatable, Sendable {
  /// Goes into a directory, which is made unless it is there; without metadata it is only on the way to something.
  case directory(name: [UInt8], TreeMetadata?)
  /// Goes back up.
  case leave
  /// A regular file of so many bytes. The bytes of its extents follow as data; what lies between them is a hole.
  case file(name: [UInt8], TreeMetadata, size: UInt64, extents: [TreeExtent])
  /// The next piece of the file's contents; the bytes themselves follow.
  case data(count: Int)
  /// A symbolic link.
  case symbolicLink(name: [UInt8], TreeMetadata, target: [UInt8])
  /// A pipe with a name.
  case fifo(name: [UInt8], TreeMetadata)
  /// One more name of a file that came before; its path from the top, as names.
  case hardLink(name: [UInt8], target: [[UInt8]])
  /// All of it came, with so many entries and bytes of contents.
  case end(entries: UInt64, bytes: UInt64)
  /// The sender gave up, and said elsewhere why.
  case failed
}

/// What there is to know of a file besides its name and its contents.
package struct TreeMetadata: Equatable, Sendable {
  package struct Attribute: Equatable, Sendable {
    package var name: [UInt8]
    package var value: [UInt8]

    package init(name: [UInt8], value: [UInt8]) {
      self.name = name
      self.value = value
    }
  }

  /// The low twelve bits of the mode.
  package var permissions: UInt32
  package var owner: UInt32
  package var group: UInt32
  /// When it was changed last, since 1970.
  package var seconds: Int64
  package var nanoseconds: UInt32
  package var attributes: [Attribute]

  package init(
    permissions: UInt32, owner: UInt32, group: UInt32, seconds: Int64, nanoseconds: UInt32,
    attributes: [Attribute] = []
  ) {
    self.permissions = permissions
    self.owner = owner
    self.group = group
    self.seconds = seconds
    self.nanoseconds = nanoseconds
    self.attributes = attributes
  }
}

/// A part of a file that has contents.
package struct TreeExtent: Equatable, Sendable {
  package var offset: UInt64
  package var length: UInt64

  package init(offset: UInt64, length: UInt64) {
    self.offset = offset
    self.length = length
  }
}

/// The bounds of a stream; what is beyond them is malformed.
package enum TreeLimits {
  /// The longest record, contents not counted, in bytes.
  package static let record = 2 << 20
  /// The longest piece of contents, in bytes.
  package static let data = 1 << 20
  /// The most extents of a file.
  package static let extents = 32768
  /// The deepest path, in names.
  package static let depth = 16384
  /// The largest file: what the kernel's offsets hold.
  package static let size = UInt64(Int64.max)
}
