import Glibc
import Linux
import MachinePlan
import MachineStore

/// The host's side of a running machine, as the plan's host steps made it.
struct HostPreparation {
  var scope: CgroupScope
  var userNamespace: UserNamespace

  /// Carries out the host steps of a plan.
  ///
  /// - Parameters:
  ///   - cgroups: where control groups come from.
  ///   - undo: gets the way back of each step, before the step.
  ///   - shift: gives a tree to other ids; called for a plan that says so.
  ///   - note: told of the control group before it is made, so that a record of it outlives a kill.
  init(
    _ steps: [HostStep], cgroups: any CgroupBackend, undo: UndoStack, note: (String) throws(Failure) -> Void,
    shift: (_ path: String, _ from: UInt32, _ to: UInt32, _ count: UInt32) throws(Failure) -> Void
  ) throws(Failure) {
    var scope: CgroupScope?
    var namespace: UserNamespace?
    for step in steps {
      switch step {
      case .shiftOwnership(let path, let from, let to, let count): try shift(path, from, to, count)
      case .cgroup(let plan): scope = try cgroups.make(plan, undo: undo, note: note)
      case .scratchFolder(let path, let like, let offset): try Self.makeScratch(path, like: like, idOffset: offset)
      case .journalFolder(let path, let owner): try JournalFolder.make(path, owner: owner)
      case .userNamespace(let base, let count):
        namespace = try UserNamespace(mapping: UIDRange(base: base, count: count))
      }
    }
    guard let scope, let namespace else { throw Failure("carry out", "the plan", "it lacks a step") }
    self.scope = scope
    userNamespace = namespace
  }

  private static func makeScratch(_ path: String, like: String, idOffset: UInt32) throws(Failure) {
    let status = try Descriptor.open(like, [.path, .directory, .noFollow]).status()
    for (folder, mode) in [(path, UInt32(0o700)), ("\(path)/upper", status.mode), ("\(path)/work", 0o700)] {
      try check(mkdir(folder, mode), "make the folder", folder)
    }
    try check(chown("\(path)/upper", status.uid + idOffset, status.gid + idOffset), "give away", "\(path)/upper")
    // The mode again: the first one was cut by the mask.
    try check(chmod("\(path)/upper", status.mode), "set the mode of", "\(path)/upper")
  }
}
