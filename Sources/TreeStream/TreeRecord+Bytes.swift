/// Bytes that are no stream of a tree.
package struct TreeStreamError: Error, Equatable {
  /// What was found or missed.
  package let reason: String
}

/// A record is its kind (1 byte), its length (4) and so many bytes; integers have their lowest byte first.
extension TreeRecord {
  /// The bytes that every stream begins with.
  package static let magic: [UInt8] = Array("henge-tree 1\n".utf8)
  /// The kind and the length.
  package static let headerSize = 5

  static let dataKind: UInt8 = 4

  /// The record as bytes; of `data` only what comes before the contents.
  package var encoded: [UInt8] {
    var body: [UInt8] = []
    let kind: UInt8
    switch self {
    case .directory(let name, let metadata):
      kind = 1
      body.put(name)
      body.append(metadata == nil ? 0 : 1)
      if let metadata { body.put(metadata) }
    case .leave: kind = 2
    case .file(let name, let metadata, let size, let extents):
      kind = 3
      body.put(name)
      body.put(metadata)
      body.put(size)
      body.put(UInt32(truncatingIfNeeded: extents.count))
      for extent in extents {
        body.put(extent.offset)
        body.put(extent.length)
      }
    case .data(let count): return Self.header(Self.dataKind, count)
    case .symbolicLink(let name, let metadata, let target):
      kind = 5
      body.put(name)
      body.put(metadata)
      body.put(target)
    case .fifo(let name, let metadata):
      kind = 6
      body.put(name)
      body.put(metadata)
    case .hardLink(let name, let target):
      kind = 7
      body.put(name)
      body.put(UInt32(truncatingIfNeeded: target.count))
      for part in target { body.put(part) }
    case .end(let entries, let bytes):
      kind = 8
      body.put(entries)
      body.put(bytes)
    case .failed: kind = 9
    }
    return Self.header(kind, body.count) + body
  }

  static func header(_ kind: UInt8, _ length: Int) -> [UInt8] {
    var result = [kind]
    result.put(UInt32(truncatingIfNeeded: length))
    return result
  }

  /// Reads a record whose header was read already.
  init(kind: UInt8, body: [UInt8]) throws(TreeStreamError) {
    var bytes = ByteReader(body[...])
    switch kind {
    case 1:
      let name = try bytes.name()
      switch try bytes.integer(UInt8.self) {
      case 0: self = .directory(name: name, nil)
      case 1: self = .directory(name: name, try bytes.metadata())
      default: throw TreeStreamError(reason: "a directory has neither metadata nor none")
      }
    case 2: self = .leave
    case 3:
      let name = try bytes.name()
      let metadata = try bytes.metadata()
      let size = try bytes.integer(UInt64.self)
      self = .file(name: name, metadata, size: size, extents: try bytes.extents(size))
    case 5: self = .symbolicLink(name: try bytes.name(), try bytes.metadata(), target: try bytes.linkTarget())
    case 6: self = .fifo(name: try bytes.name(), try bytes.metadata())
    case 7: self = .hardLink(name: try bytes.name(), target: try bytes.path())
    case 8: self = .end(entries: try bytes.integer(), bytes: try bytes.integer())
    case 9: self = .failed
    default: throw TreeStreamError(reason: "there is no kind \(kind) of record")
    }
    guard bytes.isAtEnd else { throw TreeStreamError(reason: "a record of kind \(kind) is too long") }
  }
}

extension [UInt8] {
  fileprivate mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  fileprivate mutating func put(_ value: [UInt8]) {
    put(UInt32(truncatingIfNeeded: value.count))
    append(contentsOf: value)
  }

  fileprivate mutating func put(_ metadata: TreeMetadata) {
    put(metadata.permissions)
    put(metadata.owner)
    put(metadata.group)
    put(metadata.seconds)
    put(metadata.nanoseconds)
    put(UInt32(truncatingIfNeeded: metadata.attributes.count))
    for attribute in metadata.attributes {
      put(attribute.name)
      put(attribute.value)
    }
  }
}

/// Reads values one after the other, and never beyond the end.
private struct ByteReader {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  var isAtEnd: Bool { rest.isEmpty }

  mutating func integer<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(TreeStreamError) -> Value {
    let size = MemoryLayout<Value>.size
    guard rest.count >= size else { throw TreeStreamError(reason: "a record is too short") }
    var value: Value = 0
    for (index, byte) in rest.prefix(size).enumerated() {
      value |= Value(truncatingIfNeeded: byte) << Value(truncatingIfNeeded: 8 * index)
    }
    rest = rest.dropFirst(size)
    return value
  }

  mutating func bytes() throws(TreeStreamError) -> [UInt8] {
    let count = Int(try integer(UInt32.self))
    guard rest.count >= count else { throw TreeStreamError(reason: "a record is too short") }
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  /// One component of a path, and nothing that leads anywhere else.
  mutating func name() throws(TreeStreamError) -> [UInt8] {
    let name = try bytes()
    guard (1...255).contains(name.count), name != [46], name != [46, 46], !name.contains(47), !name.contains(0) else {
      throw TreeStreamError(reason: "a name is empty, too long, '.', '..', or has a slash or a NUL in it")
    }
    return name
  }

  mutating func linkTarget() throws(TreeStreamError) -> [UInt8] {
    let target = try bytes()
    guard (1...4095).contains(target.count), !target.contains(0) else {
      throw TreeStreamError(reason: "a symbolic link leads to nothing, too far, or has a NUL in it")
    }
    return target
  }

  mutating func path() throws(TreeStreamError) -> [[UInt8]] {
    let count = Int(try integer(UInt32.self))
    guard (1...TreeLimits.depth).contains(count) else { throw TreeStreamError(reason: "a path is empty or too deep") }
    var result: [[UInt8]] = []
    for _ in 0..<count { result.append(try name()) }
    return result
  }

  mutating func extents(_ size: UInt64) throws(TreeStreamError) -> [TreeExtent] {
    let count = Int(try integer(UInt32.self))
    guard count <= TreeLimits.extents, size <= TreeLimits.size else {
      throw TreeStreamError(reason: "a file is too large, or has too many extents")
    }
    var result: [TreeExtent] = []
    var end: UInt64 = 0
    for _ in 0..<count {
      let extent = TreeExtent(offset: try integer(), length: try integer())
      let (next, overflow) = extent.offset.addingReportingOverflow(extent.length)
      guard extent.offset >= end, extent.length > 0, !overflow, next <= size else {
        throw TreeStreamError(reason: "the extents of a file do not fit it")
      }
      end = next
      result.append(extent)
    }
    return result
  }

  mutating func metadata() throws(TreeStreamError) -> TreeMetadata {
    var result = TreeMetadata(
      permissions: try integer(), owner: try integer(), group: try integer(), seconds: try integer(),
      nanoseconds: try integer())
    guard result.permissions <= 0o7777, result.nanoseconds < 1_000_000_000 else {
      throw TreeStreamError(reason: "a file has a mode or a time that there is not")
    }
    let count = Int(try integer(UInt32.self))
    // An attribute takes at least its two lengths: a larger count is a lie.
    guard count <= rest.count / 8 else { throw TreeStreamError(reason: "a file has too many attributes") }
    for _ in 0..<count {
      let name = try bytes()
      let value = try bytes()
      guard (1...255).contains(name.count), !name.contains(0), value.count <= 65536 else {
        throw TreeStreamError(reason: "an attribute has a name or a value that there is not")
      }
      result.attributes.append(TreeMetadata.Attribute(name: name, value: value))
    }
    return result
  }
}
