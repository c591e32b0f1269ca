import Linux

/// The ids inside extended attributes: POSIX ACLs and version 3 file capabilities, as the kernel's raw bytes.
package enum AttributeIDs {
  package static let capability = "security.capability"
  package static let accessACL = "system.posix_acl_access"
  package static let defaultACL = "system.posix_acl_default"

  /// An error in the bytes, which the caller gives a path.
  package enum Problem: Error {
    case malformed
    case foreign(UInt32)
  }

  /// Rewrites the ids in the value of an attribute; a value without ids comes back as it is.
  ///
  /// - Parameters:
  ///   - name: the attribute.
  ///   - value: its bytes.
  ///   - map: where an id goes, nil when it may not be there.
  package static func rewrite(
    _ name: String, _ value: [UInt8], _ map: (UInt32) -> UInt32?
  ) throws(Problem) -> [UInt8] {
    switch name {
    case capability: try rewriteCapability(value, map)
    case accessACL, defaultACL: try rewriteACL(value, map)
    default: value
    }
  }

  /// `struct vfs_ns_cap_data`: only revision 3 (24 bytes) carries an id, that of the root user it is valid for.
  static func rewriteCapability(_ value: [UInt8], _ map: (UInt32) -> UInt32?) throws(Problem) -> [UInt8] {
    guard let magic = word(value, 0) else { throw .malformed }
    switch (magic & 0xff00_0000, value.count) {
    case (0x0100_0000, 12), (0x0200_0000, 20): return value
    case (0x0300_0000, 24):
      guard let id = word(value, 20) else { throw .malformed }
      guard let target = map(id) else { throw .foreign(id) }
      var result = value
      put(target, &result, 20)
      return result
    default: throw .malformed
    }
  }

  /// `struct posix_acl_xattr_header` and its entries of tag (2), permissions (2), id (4).
  static func rewriteACL(_ value: [UInt8], _ map: (UInt32) -> UInt32?) throws(Problem) -> [UInt8] {
    guard word(value, 0) == 2, (value.count - 4) % 8 == 0 else { throw .malformed }
    var result = value
    var offset = 4
    while offset + 8 <= value.count {
      let tag = UInt16(value[offset]) | UInt16(value[offset + 1]) << 8
      if tag == 0x02 || tag == 0x08, let id = word(value, offset + 4) {
        guard let target = map(id) else { throw .foreign(id) }
        put(target, &result, offset + 4)
      }
      offset += 8
    }
    return result
  }

  private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt32? {
    guard offset + 4 <= bytes.count else { return nil }
    return (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
  }

  private static func put(_ value: UInt32, _ bytes: inout [UInt8], _ offset: Int) {
    for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * index)) }
  }
}
