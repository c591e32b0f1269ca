import Linux

/// The ids of a user's parent namespace: 0 is the user, and from 1 on come the subordinate ids, in pieces that are each
/// enough for a machine.
///
/// Users and groups are cut in the same way, so that a range of ids means as much for the one as for the other.
public struct ParentMap: Sendable, Equatable {
  /// The kernel takes 340 lines of a map.
  static let maximumLines = 300

  /// The map of users.
  public private(set) var users: [IDExtent]
  /// The map of groups.
  public private(set) var groups: [IDExtent]
  /// For how many machines it is enough.
  public private(set) var machines = 0

  /// Lays out what the user has.
  public init(of user: OrdinaryUser, _ ids: SubordinateIDs) {
    users = [IDExtent(inside: 0, outside: user.uid, count: 1)]
    groups = [IDExtent(inside: 0, outside: user.gid, count: 1)]
    let pieces = zip(Self.pieces(ids.users, beside: user.uid), Self.pieces(ids.groups, beside: user.gid))
    for (user, group) in pieces {
      let inside = 1 + UInt32(machines) * UIDRange.standardCount
      Self.append(IDExtent(inside: inside, outside: user, count: UIDRange.standardCount), to: &users)
      Self.append(IDExtent(inside: inside, outside: group, count: UIDRange.standardCount), to: &groups)
      machines += 1
      if max(users.count, groups.count) >= Self.maximumLines { break }
    }
  }

  /// Where ranges of a machine's size begin in what a user has.
  private static func pieces(_ ranges: [UIDRange], beside own: UInt32) -> [UInt32] {
    var taken: [UIDRange] = [UIDRange(base: own, count: 1)]
    var result: [UInt32] = []
    for range in ranges {
      // More than any host can have running, and the list stays short whatever the file says.
      for index in 0..<min(range.count / UIDRange.standardCount, 8192) {
        let piece = UIDRange(base: range.base + index * UIDRange.standardCount)
        // Lines may overlap; the kernel takes no id twice.
        if taken.contains(where: piece.overlaps) { continue }
        result.append(piece.base)
      }
      taken.append(range)
    }
    return result
  }

  private static func append(_ piece: IDExtent, to map: inout [IDExtent]) {
    if let last = map.last, last.inside + last.count == piece.inside, last.outside + last.count == piece.outside,
      last.inside > 0
    {
      map[map.count - 1] = IDExtent(inside: last.inside, outside: last.outside, count: last.count + piece.count)
    } else {
      map.append(piece)
    }
  }

  /// The arguments of newuidmap or newgidmap that write a map.
  public static func arguments(_ map: [IDExtent]) -> [String] {
    map.flatMap { ["\($0.inside)", "\($0.outside)", "\($0.count)"] }
  }
}
