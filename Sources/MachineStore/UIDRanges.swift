import Glibc
import Linux
import MachineSpec

/// The ids that machines have on this host: for each 65536 of them a symbolic link `uid-ranges/BASE` to the machine's
/// name, so that looking at all of them is reading one folder.
struct UIDRanges {
  let folder: Descriptor
  /// The folder's path, which tells installations apart.
  let place: String
  /// Where there are ids for machines at all.
  let runs: [IDRun]

  /// Takes a free range for a machine.
  ///
  /// - Parameters:
  ///   - name: the machine; the search starts at a place that depends on its name and the installation, so that a
  ///     machine made again tends to get its old ids, and two installations tend to stay apart.
  ///   - count: how many ids, a multiple of 65536.
  ///   - isMachine: whether there is such a machine; ranges of others are leftovers and are given back.
  ///   - foreign: ranges that belong to somebody else on this host.
  /// - Throws: `Failure` when none is free.
  func take(
    for name: MachineName, count: UInt32 = UIDRange.standardCount, isMachine: (String) -> Bool, foreign: [UIDRange]
  ) throws(Failure) -> UIDRange {
    let lock = try folder.open(".lock", [.readWrite, .create], lookup: .beneath, mode: 0o600)
    _ = try lock.lock(wait: true)
    var taken = Set<UInt32>()
    for entry in try folder.names() {
      guard let base = UInt32(entry) else { continue }
      if let owner = owner(of: entry), isMachine(owner) {
        taken.insert(base)
      } else {
        _ = unlinkat(folder.raw, entry, 0)
      }
    }
    let starts = runs.reduce(0) { $0 + $1.starts(of: count) }
    let busy = foreign.sorted { $0.base < $1.base }
    let first = starts == 0 ? 0 : Self.hash("\(place)/\(name)") % starts
    for step in 0..<starts {
      guard let range = range((first + step) % starts, count: count) else { continue }
      if Self.bases(of: range).contains(where: taken.contains) || busy.contains(where: range.overlaps) { continue }
      try claim(range, for: name)
      return range
    }
    throw noneFree(count, for: name)
  }

  /// The so-manieth range that could be given to a machine.
  private func range(_ number: UInt32, count: UInt32) -> UIDRange? {
    var number = number
    for run in runs {
      let starts = run.starts(of: count)
      if number < starts { return UIDRange(base: run.base + number * UIDRange.standardCount, count: count) }
      number -= starts
    }
    return nil
  }

  private func claim(_ range: UIDRange, for name: MachineName) throws(Failure) {
    var made: [UInt32] = []
    for base in Self.bases(of: range) {
      do {
        try check(symlinkat(name.description, folder.raw, "\(base)"), "take the uid range", "\(range)")
        made.append(base)
      } catch {
        for base in made { _ = unlinkat(folder.raw, "\(base)", 0) }
        throw error
      }
    }
  }

  private func noneFree(_ count: UInt32, for name: MachineName) -> Failure {
    let what = "none of \(count) ids is free"
    guard let run = runs.first, runs.count == 1, run.base == IDRun.host.base else {
      return Failure(
        "take a uid range for", name.description, runs.isEmpty ? "this namespace has no ids for machines" : what,
        advice: (try? OwnIDs.current().standsForUser) == true
          ? "remove machines, or have more ids set aside for the user: 'hengectl doctor' shows how"
          : "remove machines, or give the machine around more ids: IDs= in its spec",
        kind: .refused)
    }
    return Failure(
      "take a uid range for", name.description, "\(what) between \(run.base) and \(run.last)",
      advice: "remove machines, or ranges from /etc/subuid and /etc/subgid", kind: .refused)
  }

  /// How many ranges of 65536 ids nobody has.
  static func countFree(in runs: [IDRun], taken: [UIDRange], foreign: [UIDRange]) -> Int {
    let size = UIDRange.standardCount
    var free = 0
    for run in runs {
      var busy = Set<UInt32>()
      for range in taken + foreign where range.last >= run.base && range.base <= run.last {
        let (low, high) = (max(range.base, run.base) - run.base, min(range.last, run.last) - run.base)
        for slot in low / size...high / size { busy.insert(slot) }
      }
      free += Int(run.slots) - busy.count
    }
    return max(0, free)
  }

  /// Gives a range back, as far as the machine still has it.
  func giveBack(_ range: UIDRange, of name: MachineName) {
    for base in Self.bases(of: range) where owner(of: "\(base)") == name.description {
      _ = unlinkat(folder.raw, "\(base)", 0)
    }
  }

  private static func bases(of range: UIDRange) -> [UInt32] {
    stride(from: UInt64(range.base), through: UInt64(range.last), by: Int(UIDRange.standardCount)).map {
      UInt32(truncatingIfNeeded: $0)
    }
  }

  /// Gives a range that a machine has to the same machine under its new name, in one atomic call.
  func hand(_ range: UIDRange, to name: MachineName) throws(Failure) {
    let lock = try folder.open(".lock", [.readWrite, .create], lookup: .beneath, mode: 0o600)
    _ = try lock.lock(wait: true)
    let new = ".\(range.base).new"
    _ = unlinkat(folder.raw, new, 0)
    try check(symlinkat(name.description, folder.raw, new), "hand over the uid range", "\(range)")
    try check(renameat(folder.raw, new, folder.raw, "\(range.base)"), "hand over the uid range", "\(range)")
    withExtendedLifetime(lock) {}
  }

  private func owner(of entry: String) -> String? { folder.linkTarget(entry) }

  /// FNV-1a: the same on every run, unlike Swift's own hashes.
  private static func hash(_ text: String) -> UInt32 {
    text.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
  }
}

/// A stretch of ids that machines can be given, cut into slots of 65536.
struct IDRun: Equatable {
  /// The part of the id space that systemd sets aside for containers.
  static let host = IDRun(base: 0x0008_0000, slots: (0x6fff_ffff - 0x0008_0000) / UIDRange.standardCount + 1)

  let base: UInt32
  let slots: UInt32

  var last: UInt32 { base + slots * UIDRange.standardCount - 1 }

  /// At how many places a range may begin.
  func starts(of count: UInt32) -> UInt32 {
    let needed = count / UIDRange.standardCount
    return needed > 0 && needed <= slots ? slots - needed + 1 : 0
  }

  /// What there is in a user namespace.
  ///
  /// On the host itself it is what systemd sets aside. In a user's namespace it is all that is not the user. In a
  /// machine it is what the machine has beyond the 65536 that its own users are from.
  static func runs(of own: OwnIDs) -> [IDRun] {
    if own.isWhole { return [host] }
    let size = UInt64(UIDRange.standardCount)
    return own.common.sorted { $0.base < $1.base }.compactMap { range in
      let least = own.standsForUser ? 1 : size
      var base = max(UInt64(range.base), least)
      if !own.standsForUser { base = (base + size - 1) / size * size }
      let end = min(UInt64(range.last), UInt64(host.last)) + 1
      guard end >= base + size else { return nil }
      return IDRun(base: UInt32(base), slots: UInt32((end - base) / size))
    }
  }
}
