import Linux

/// Moves user and group ids from one range to another.
public struct IDShift: Sendable, Equatable {
  /// What to do with an id that is in neither range.
  public enum Foreign: Sendable {
    /// Fail, naming the file.
    case fail
    /// Make it the overflow id (65534) of the target range.
    case squash
  }

  /// The first id of the range that ids come from.
  public let from: UInt32
  /// The first id of the range that ids go to.
  public let to: UInt32
  /// How many ids each range has.
  public let count: UInt32
  /// What to do with an id that is in neither range.
  public var foreign: Foreign

  /// Describes a shift.
  ///
  /// - Parameters:
  ///   - from: the first id of the source range.
  ///   - to: the first id of the target range.
  ///   - count: the number of ids in each range.
  ///   - foreign: what to do with an id that is in neither.
  ///   - mayOverlap: whether the ranges may share ids: only where each file is looked at once.
  /// - Throws: `Failure` when the ranges overlap and must not, or leave the 32 bits of an id.
  public init(
    from: UInt32, to: UInt32, count: UInt32 = 65536, foreign: Foreign = .fail, mayOverlap: Bool = false
  ) throws(Failure) {
    let (fromEnd, fromOver) = from.addingReportingOverflow(count)
    let (toEnd, toOver) = to.addingReportingOverflow(count)
    let subject = "\(from) to \(to)"
    // The last id of all, 4294967295, means "no id" to the kernel: an end of 2^32 - 1 still leaves it out.
    if fromOver || toOver || count == 0 { throw Failure("shift ids", subject, "the range is not one of ids") }
    if !mayOverlap && from < toEnd && to < fromEnd {
      throw Failure("shift ids", subject, "the two ranges overlap", advice: "ids go between ranges that are disjoint")
    }
    self.from = from
    self.to = to
    self.count = count
    self.foreign = foreign
  }

  /// The same shift backwards.
  public var reversed: IDShift {
    IDShift(checkedFrom: to, to: from, count: count, foreign: foreign)
  }

  private init(checkedFrom from: UInt32, to: UInt32, count: UInt32, foreign: Foreign) {
    self.from = from
    self.to = to
    self.count = count
    self.foreign = foreign
  }

  /// Whether an id is in the target range.
  @inline(__always)
  func isTarget(_ id: UInt32) -> Bool { id >= to && id - to < count }

  /// Where an id goes: ids of the target range stay, so that a shift may be done twice.
  ///
  /// - Returns: nil for an id that is foreign and must not be.
  @inline(__always)
  func callAsFunction(_ id: UInt32) -> UInt32? {
    if id >= from && id - from < count { return to + (id - from) }
    if isTarget(id) { return id }
    return foreign == .squash ? to + min(65534, count - 1) : nil
  }

  /// The failure for an id that is in neither range.
  func foreignID(_ id: UInt32, path: String) -> Failure {
    Failure(
      "shift the owner of", path, "id \(id) is in neither \(from)…\(from + (count - 1)) nor \(to)…\(to + (count - 1))",
      advice: "give the file an owner of the range, or have foreign ids squashed")
  }
}
