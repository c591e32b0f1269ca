import Glibc
import Linux
import MachineSpec

/// The ids that machines have on this host: each range is a symbolic link `uid-ranges/BASE` to the machine's name, so
/// that taking one is one atomic call and looking at all of them is reading one folder.
struct UIDRanges {
  /// Where ranges begin and end: the part of the id space that systemd sets aside for containers.
  static let first: UInt32 = 0x0008_0000
  static let last: UInt32 = 0x6fff_ffff

  let folder: Descriptor
  /// The folder's path, which tells installations apart.
  let place: String

  /// Takes a free range for a machine.
  ///
  /// - Parameters:
  ///   - name: the machine; the search starts at a place that depends on its name and the installation, so that a
  ///     machine made again tends to get its old ids, and two installations tend to stay apart.
  ///   - isMachine: whether there is such a machine; ranges of others are leftovers and are given back.
  ///   - foreign: ranges that belong to somebody else on this host.
  /// - Throws: `Failure` when none is free.
  func take(
    for name: MachineName, isMachine: (String) -> Bool, foreign: [UIDRange]
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
    let count = UIDRange.standardCount
    let slots = (Self.last - Self.first) / count + 1
    let start = Self.hash("\(place)/\(name)") % slots
    let busy = foreign.sorted { $0.base < $1.base }
    for step in 0..<slots {
      let range = UIDRange(base: Self.first + (start + step) % slots * count)
      if taken.contains(range.base) || busy.contains(where: range.overlaps) { continue }
      try check(symlinkat(name.description, folder.raw, "\(range.base)"), "take the uid range", "\(range)")
      return range
    }
    throw Failure(
      "take a uid range for", name.description,
      "none of 65536 ids is free between \(Self.first) and \(Self.last)",
      advice: "remove machines, or ranges from /etc/subuid and /etc/subgid", kind: .refused)
  }

  /// How many ranges nobody has.
  static func countFree(taken: Int, foreign: [UIDRange]) -> Int {
    let slots = Int((last - first) / UIDRange.standardCount) + 1
    var busy = Set<UInt32>()
    for range in foreign where range.last >= first && range.base <= last {
      let low = max(range.base, first) - first
      let high = min(range.last, last) - first
      for slot in low / UIDRange.standardCount...high / UIDRange.standardCount { busy.insert(slot) }
    }
    return max(0, slots - busy.count - taken)
  }

  /// Gives a range back, if the machine still has it.
  func giveBack(_ range: UIDRange, of name: MachineName) {
    if owner(of: "\(range.base)") == name.description { _ = unlinkat(folder.raw, "\(range.base)", 0) }
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

/// Ids on this host that belong to somebody else.
enum ForeignIDs {
  /// Users and groups of the host, everybody's subordinate ids, and what live user namespaces map.
  static func ranges() -> [UIDRange] {
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
    return result + live()
  }

  private static func fields(of file: String) -> [[Substring]] {
    guard let bytes = try? Descriptor.open(file).readAll(limit: 16 << 20, subject: file) else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
      $0.split(separator: ":", omittingEmptySubsequences: false)
    }
  }

  /// What processes of other user namespaces have as their ids. Those of a namespace that maps everything, as the
  /// host's own does, say nothing.
  private static func live() -> [UIDRange] {
    guard let proc = try? Descriptor.open("/proc", .directory), let names = try? proc.names() else { return [] }
    var result = Set<UIDRange>()
    for process in names where process.utf8.allSatisfy({ (48...57).contains($0) }) {
      for file in ["uid_map", "gid_map"] {
        // A process that ended meanwhile has no ids.
        guard let map = try? proc.open("\(process)/\(file)", .read, lookup: .beneath),
          let bytes = try? map.readAll(subject: file)
        else { continue }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
          let numbers = line.split(separator: " ").compactMap { UInt32($0) }
          guard numbers.count == 3, numbers[2] > 0, numbers[2] < UInt32.max else { continue }
          result.insert(UIDRange(base: numbers[1], count: min(numbers[2], UInt32.max - numbers[1])))
        }
      }
    }
    return Array(result)
  }
}

extension MachineStore {
  /// How many uid ranges could still be given to machines; those of live machines count once.
  public func countFreeRanges() throws(Failure) -> Int {
    let taken = try names().compactMap { try? record(of: $0).range }
    let foreign = ForeignIDs.ranges().filter { range in !taken.contains { $0.overlaps(range) } }
    return UIDRanges.countFree(taken: taken.count, foreign: foreign)
  }
}
