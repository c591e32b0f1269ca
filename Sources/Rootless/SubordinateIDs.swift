import Linux

/// The ids that the host's administrator has set aside for a user: the lines of `/etc/subuid` and `/etc/subgid`.
public struct SubordinateIDs: Sendable, Equatable {
  /// Of `/etc/subuid`, in the order of the lines.
  public var users: [UIDRange]
  /// Of `/etc/subgid`.
  public var groups: [UIDRange]

  /// Ids that are known already.
  public init(users: [UIDRange], groups: [UIDRange]) {
    self.users = users
    self.groups = groups
  }

  /// Reads the two files. Both name the user, also that of the groups.
  public init(of user: OrdinaryUser) {
    users = Self.ranges(AccountFile.lines(of: "/etc/subuid"), of: user)
    groups = Self.ranges(AccountFile.lines(of: "/etc/subgid"), of: user)
  }

  /// The ranges that a file's text gives a user, by name or by number.
  static func ranges(_ lines: [[Substring]], of user: OrdinaryUser) -> [UIDRange] {
    lines.compactMap { fields in
      guard fields.count == 3, fields[0] == user.name ?? "" && !fields[0].isEmpty || fields[0] == "\(user.uid)",
        let base = UInt32(fields[1]), let count = UInt32(fields[2]), base > 0, count > 0, count < UInt32.max - base
      else { return nil }
      return UIDRange(base: base, count: count)
    }
  }

  /// The command that gives the user ids for one machine: below what is the system's for containers where that is free.
  public static func command(for user: OrdinaryUser) -> String {
    let taken = ["/etc/subuid", "/etc/subgid"].flatMap { path in
      AccountFile.lines(of: path).compactMap { fields -> UIDRange? in
        guard fields.count == 3, let base = UInt32(fields[1]), let count = UInt32(fields[2]), count > 0 else {
          return nil
        }
        return UIDRange(base: base, count: min(count, UInt32.max - base))
      }
    }
    let range = free(beside: taken)
    return "sudo usermod --add-subuids \(range) --add-subgids \(range) \(user.label)"
  }

  static func free(beside taken: [UIDRange]) -> UIDRange {
    // 100000 is where useradd begins; machines of the host's root have theirs from 524288 to 1879048191.
    for (first, last) in [(UInt32(100_000), UInt32(0x0008_0000)), (0x7000_0000, 0x7fff_0000)] {
      var base = first
      for range in taken.sorted(by: { $0.base < $1.base }) {
        if range.overlaps(UIDRange(base: base)) { base = max(base, range.last &+ 1) }
      }
      if base >= first, base <= last - UIDRange.standardCount { return UIDRange(base: base) }
    }
    return UIDRange(base: 0x7fff_0000)
  }
}
