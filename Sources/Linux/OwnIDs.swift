/// One line of an id map: so many ids from one on stand for as many of the namespace around.
public struct IDExtent: Hashable, Sendable {
  /// The first id in the namespace.
  public let inside: UInt32
  /// The id that it stands for in the namespace around.
  public let outside: UInt32
  /// How many ids.
  public let count: UInt32

  /// So many ids from `inside` on that stand for those from `outside` on.
  public init(inside: UInt32, outside: UInt32, count: UInt32) {
    self.inside = inside
    self.outside = outside
    self.count = count
  }

  /// The ids in the namespace.
  public var range: UIDRange { UIDRange(base: inside, count: count) }
}

/// The ids that there are in this process's user namespace: all of them on a host, some in a namespace on it.
public struct OwnIDs: Sendable, Equatable {
  /// As of `/proc/self/uid_map`.
  public let users: [IDExtent]
  /// As of `/proc/self/gid_map`.
  public let groups: [IDExtent]

  /// Ids that are known already.
  public init(users: [IDExtent], groups: [IDExtent]) {
    self.users = users
    self.groups = groups
  }

  /// Reads the maps of this process.
  public static func current() throws(Failure) -> OwnIDs {
    func map(_ path: String) throws(Failure) -> [IDExtent] {
      Self.extents(of: try Descriptor.open(path).readAll(limit: 65536, subject: path))
    }
    return OwnIDs(users: try map("/proc/self/uid_map"), groups: try map("/proc/self/gid_map"))
  }

  /// The lines of an id map; one that is none is passed over.
  public static func extents(of map: [UInt8]) -> [IDExtent] {
    String(decoding: map, as: UTF8.self).split(separator: "\n").compactMap { line in
      let numbers = line.split(separator: " ").compactMap { UInt32($0) }
      guard numbers.count == 3, numbers[2] > 0, numbers[2] <= UInt32.max - numbers[0] else { return nil }
      return IDExtent(inside: numbers[0], outside: numbers[1], count: numbers[2])
    }
  }

  /// Whether these are the ids of the host itself.
  public var isWhole: Bool {
    let all = [IDExtent(inside: 0, outside: 0, count: .max)]
    return users == all && groups == all
  }

  /// Whether root is an ordinary user of the host and everybody else one of the user's subordinate ids.
  public var standsForUser: Bool {
    users.contains { $0.inside == 0 && $0.count == 1 } && groups.contains { $0.inside == 0 && $0.count == 1 }
  }

  /// What root here is in the namespace around.
  public var rootOutside: UInt32? { users.first { $0.inside == 0 }?.outside }

  /// The id of the namespace around that a user's id here stands for; nil for one that is not mapped.
  public func outside(_ id: UInt32) -> UInt32? {
    users.first { $0.inside <= id && id - $0.inside < $0.count }.map { $0.outside + (id - $0.inside) }
  }

  /// Ranges in which users and groups alike have each an extent of their own: the kernel lets a map of a namespace
  /// below refer to one extent of this one's at a time.
  public var common: [UIDRange] {
    users.flatMap { user in
      groups.compactMap { group in
        guard user.range.overlaps(group.range) else { return nil }
        let first = max(user.inside, group.inside)
        return UIDRange(base: first, count: min(user.range.last, group.range.last) - first + 1)
      }
    }
  }
}
