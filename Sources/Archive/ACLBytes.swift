/// Makes the kernel's raw ACL of an archive's lines.
enum ACLBytes {
  /// Why lines are no ACL.
  enum Problem: Error {
    /// An id that is outside the image's range, or a name that its account files do not have.
    case unknown(String)
    case malformed
  }

  /// Encodes an ACL, completing the lines that every list must have.
  ///
  /// - Parameters:
  ///   - lines: in any order.
  ///   - permissions: the mode, for what the lines leave out.
  ///   - resolve: the id for a named line; nil when there is none.
  /// - Returns: the value of `system.posix_acl_access` or `…_default`.
  static func encode(
    _ lines: [TarEntry.ACLLine], permissions: UInt32, resolve: (TarEntry.ACLLine) -> UInt32?
  ) throws(Problem) -> [UInt8] {
    var entries: [(tag: UInt16, permissions: UInt16, id: UInt32)] = []
    let none = UInt32.max
    for line in lines {
      var id = none
      if line.tag == 0x02 || line.tag == 0x08 {
        guard let resolved = resolve(line) else {
          throw .unknown(line.id.map { "id \($0)" } ?? "name \(String(decoding: line.name, as: UTF8.self))")
        }
        id = resolved
      }
      if entries.contains(where: { $0.tag == line.tag && $0.id == id }) { continue }
      entries.append((line.tag, line.permissions & 7, id))
    }
    for (tag, shift) in [(UInt16(0x01), UInt32(6)), (0x04, 3), (0x20, 0)]
    where !entries.contains(where: { $0.tag == tag }) {
      entries.append((tag, UInt16(permissions >> shift & 7), none))
    }
    let named = entries.filter { $0.id != none }
    if !named.isEmpty && !entries.contains(where: { $0.tag == 0x10 }) {
      let union = entries.filter { $0.tag == 0x04 || $0.id != none }.reduce(UInt16(0)) { $0 | $1.permissions }
      entries.append((0x10, union, none))
    }
    if entries.count > 4096 { throw .malformed }
    // The kernel wants the tags in the order of their numbers.
    entries.sort { ($0.tag, $0.id) < ($1.tag, $1.id) }
    var result: [UInt8] = [2, 0, 0, 0]
    for entry in entries {
      for value in [entry.tag, entry.permissions] {
        result.append(UInt8(truncatingIfNeeded: value))
        result.append(UInt8(truncatingIfNeeded: value >> 8))
      }
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        result.append(UInt8(truncatingIfNeeded: entry.id >> shift))
      }
    }
    return result
  }

  /// The lines of a raw ACL, as an archive may carry it among its attributes.
  static func decode(_ value: [UInt8]) throws(Problem) -> [TarEntry.ACLLine] {
    guard value.count >= 4, value[..<4].elementsEqual([2, 0, 0, 0]), (value.count - 4) % 8 == 0 else {
      throw .malformed
    }
    var lines: [TarEntry.ACLLine] = []
    for offset in stride(from: 4, to: value.count, by: 8) {
      let tag = UInt16(value[offset]) | UInt16(value[offset + 1]) << 8
      guard [0x01, 0x02, 0x04, 0x08, 0x10, 0x20].contains(tag) else { throw .malformed }
      let id = (0..<4).reduce(UInt32(0)) { $0 | UInt32(value[offset + 4 + $1]) << UInt32(8 * $1) }
      lines.append(
        TarEntry.ACLLine(tag: tag, permissions: UInt16(value[offset + 2]) & 7, id: Int64(id), name: []))
    }
    return lines
  }
}
