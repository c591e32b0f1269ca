import Linux

/// Ids on this host that belong to somebody else.
enum ForeignIDs {
  /// Users and groups of the host, everybody's subordinate ids, and what live user namespaces map.
  ///
  /// In an ordinary user's namespace there is nobody else: the host's files speak of other ids there.
  static func ranges(in own: OwnIDs) -> [UIDRange] {
    if own.standsForUser { return live(own) }
    var result: [UIDRange] = []
    for file in ["/etc/passwd", "/etc/group"] {
      for fields in fields(of: file) {
        if fields.count > 2, let id = UInt32(fields[2]) { result.append(UIDRange(base: id, count: 1)) }
      }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
      for fields in fields(of: file) {
        if fields.count == 3, let base = UInt32(fields[1]), let count = UInt32(fields[2]), count > 0 {
          result.append(UIDRange(base: base, count: min(count, UInt32.max - base)))
        }
      }
    }
    return result + live(own)
  }

  private static func fields(of file: String) -> [[Substring]] {
    guard let bytes = try? Descriptor.open(file).readAll(limit: 16 << 20, subject: file) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
      $0.split(separator: ":", omittingEmptySubsequences: false)
    }
  }

  /// What processes of other user namespaces have as their ids.
  private static func live(_ own: OwnIDs) -> [UIDRange] {
    guard let proc = try? Descriptor.open("/proc", .directory), let names = try? proc.names() else { return [] }
    var result = Set<UIDRange>()
    for process in names where process.utf8.allSatisfy({ (48...57).contains($0) }) {
      for (file, ownMap) in [("uid_map", own.users), ("gid_map", own.groups)] {
        // A process that ended meanwhile has no ids.
        guard let map = try? proc.open("\(process)/\(file)", .read, lookup: .beneath),
          let bytes = try? map.readAll(subject: file)
        else { continue }
        result.formUnion(ranges(of: OwnIDs.extents(of: bytes), own: ownMap, isHost: own.isWhole))
      }
    }
    return Array(result)
  }

  /// What one namespace's map takes away from us.
  ///
  /// The kernel shows maps in our ids, but our own in those of the namespace around. A map that holds our root is no
  /// machine's: on the host one that maps everything, in a user's namespace another one that stands for the same user.
  static func ranges(of map: [IDExtent], own: [IDExtent], isHost: Bool) -> [UIDRange] {
    if map == own { return [] }
    if !isHost, map.contains(where: { $0.outside == 0 }) { return [] }
    return map.compactMap { extent in
      guard extent.count < UInt32.max, extent.outside < UInt32.max else { return nil }
      return UIDRange(base: extent.outside, count: min(extent.count, UInt32.max - extent.outside))
    }
  }
}

extension MachineStore {
  /// How many uid ranges could still be given to machines; those of live machines count once.
  public func countFreeRanges() throws(Failure) -> Int {
    let own = try OwnIDs.current()
    let taken = try names().compactMap { try? record(of: $0).range }
    return UIDRanges.countFree(in: IDRun.runs(of: own), taken: taken, foreign: ForeignIDs.ranges(in: own))
  }
}
