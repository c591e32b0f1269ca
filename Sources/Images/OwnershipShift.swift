import CLinux
import Linux
import Synchronization
import SystemPackage

/// `PrivateUsersOwnership=chown`: moves the owners of a whole tree from one range of ids to another, in place.
public enum OwnershipShift {
  /// What was done.
  public struct Summary: Sendable, Equatable {
    /// Entries that were looked at.
    public var entries: UInt64 = 0
    /// Entries whose owner was changed now.
    public var changed: UInt64 = 0
    /// Set-id bits and capabilities that an earlier, cut-off run had taken and this one put back.
    public var restored: UInt64 = 0
  }

  /// Shifts a tree, or finishes a shift that was cut off.
  ///
  /// Modes, set-id bits, ACLs (with the ids in them shifted), file capabilities (version 2 as they are, version 3 with
  /// their root id shifted), hard links and mtimes stay. It may be killed at any point and run again, in the same
  /// direction or back: an entry whose owner is in the target range is done, and what a change of owner takes from a file
  /// is in a journal before. The top directory is last, so its owner tells whether all is done. Mounts on the tree are
  /// left alone. The corresponding calls are `getdents64`, `statx`, `listxattrat` and `fchownat`.
  ///
  /// - Parameters:
  ///   - tree: the top directory.
  ///   - path: what it is called in an error.
  ///   - shift: the ranges.
  ///   - state: a folder that the tree's users cannot write, for the journal; the same one for every run on this tree.
  ///   - threads: how many threads to use; the number of processors when nil.
  /// - Returns: what was done.
  /// - Throws: `Failure` for the first entry that cannot be shifted; what was shifted by then stays so.
  public static func run(
    _ tree: FileDescriptor, path: String, shift: IDShift, state: FileDescriptor, threads: Int? = nil
  ) throws -> Summary {
    let top = try Calls.open(tree.rawValue, ".", CLINUX_O_DIRECTORY, path: path)
    let stat = try Calls.stat(top.raw, Calls.itself, path: path)
    let lock = OwnedDescriptor(try Calls.check(clinux_reopen(state.rawValue, CLINUX_O_DIRECTORY), "open", path))
    if clinux_lock(lock.raw, 0) < 0 {
      throw Failure("shift the owners of", path, "it is being done already", advice: "wait for the other one")
    }
    defer { clinux_unlock(lock.raw) }
    let journal = try ShiftJournal(state: state.rawValue, top: stat, shift: shift)
    let threads = min(max(threads ?? Int(clinux_processors()), 1), 64)
    let pool = WalkPool(threads: threads)
    let careful = CarefulShift(shift: shift, journal: journal)
    let total = Mutex(Summary())
    pool.give(WalkPool.Subtree(descriptor: try Calls.check(clinux_dup(top.raw), "open", path), path: path))
    try pool.run {
      let worker = ShiftWorker(shift: shift, pool: pool, careful: careful, mount: stat.mount)
      do {
        while let subtree = pool.take() { try worker.walk(subtree) }
      } catch {
        pool.fail(error)
      }
      total.withLock {
        $0.entries += worker.summary.entries
        $0.changed += worker.summary.changed
        $0.restored += worker.summary.restored
      }
    }
    var summary = total.withLock { $0 }
    summary.entries += 1
    if try careful.shiftDirectory(top.raw, stat, path: path) { summary.changed += 1 }
    try journal.finish(top.raw)
    return summary
  }
}
