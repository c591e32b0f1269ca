import Linux
import MachinePlan
import MachineStore

/// Where a machine's control group comes from. On a host whose systemd keeps the tree it is asked for one; on others
/// it is made directly.
protocol CgroupBackend {
  /// Asks whoever keeps the tree for the group, which may take its time.
  ///
  /// - Parameters:
  ///   - plan: what to make, and where.
  ///   - completion: called once, at once or later, with what was given.
  func claim(_ plan: CgroupPlan, completion: @escaping (Result<CgroupPlan, Failure>) -> Void)

  /// Makes the group with its two parts, the machine's part delegated to the machine's root.
  ///
  /// - Parameters:
  ///   - plan: what to make, and where.
  ///   - undo: gets the way back of each step, before the step.
  ///   - note: told of the group's path before it is made, so that a record of it outlives a kill.
  func make(
    _ plan: CgroupPlan, undo: UndoStack, note: (String) throws(Failure) -> Void
  ) throws(Failure) -> CgroupScope

  /// Makes the machine's part anew, for the next start of the same machine.
  func renewPayload(of scope: inout CgroupScope, _ plan: CgroupPlan) throws(Failure)

  /// Changes the limits on a machine's group, all or none.
  ///
  /// - Parameters:
  ///   - changes: what is to hold, as files and as properties of a unit, and what held before.
  ///   - done: told when all of it holds, or that it came to nothing. It may be called before this returns.
  func apply(_ changes: [Limit.Change], to scope: CgroupScope, _ done: @escaping (Result<Void, Failure>) -> Void)

  /// Moves this process into the supervisor's part, if it is not there yet.
  func enter(_ scope: CgroupScope) throws(Failure)
}

extension CgroupBackend {
  func claim(_ plan: CgroupPlan, completion: @escaping (Result<CgroupPlan, Failure>) -> Void) {
    completion(.success(plan))
  }

  func renewPayload(of scope: inout CgroupScope, _ plan: CgroupPlan) throws(Failure) {
    try clearGroup(scope.payload.path)
    scope.payload = try delegatedPayload(in: scope.group, plan)
    scope.show(plan.limits)
  }

  /// The machine's part, given to the machine's root.
  func delegatedPayload(in group: CgroupDirectory, _ plan: CgroupPlan) throws(Failure) -> CgroupDirectory {
    let payload = try group.child("payload")
    try payload.delegate(to: plan.delegate, files: plan.delegatedFiles)
    return payload
  }

  /// Ends everything in a group and removes it; one that is not there is cleared already.
  func clearGroup(_ path: String) throws(Failure) {
    let group: CgroupDirectory
    do {
      group = try CgroupDirectory(opening: path)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return }
      throw error
    }
    try group.kill()
    guard try group.waitUntilEmpty(timeout: 5000) else {
      throw Failure("end the processes in", path, "they did not end within 5 s")
    }
    try CgroupDirectory.remove(path)
  }
}

/// A machine's delegated subtree.
struct CgroupScope {
  /// The whole: limits are written here, out of the machine's reach.
  var group: CgroupDirectory
  /// The supervisor's part.
  var supervisor: CgroupDirectory
  /// The machine's part.
  var payload: CgroupDirectory
}
