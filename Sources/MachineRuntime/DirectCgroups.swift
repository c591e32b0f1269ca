import Linux
import MachinePlan
import MachineStore

/// Control groups made directly below our own, where no systemd keeps the tree.
struct DirectCgroups: CgroupBackend {
  func make(
    _ plan: CgroupPlan, undo: UndoStack, note: (String) throws(Failure) -> Void
  ) throws(Failure) -> CgroupScope {
    let parent = try CgroupDirectory(opening: plan.parent)
    let path = "\(plan.parent)/\(plan.name)"
    try note(path)
    undo.push {
      // One's own group cannot be removed: step out first.
      try? parent.write("cgroup.procs", "0")
      try? clearGroup(path)
    }
    // Of an earlier start of this machine: the lock proves that nobody uses it.
    try clearGroup(path)
    let group = try parent.child(plan.name)
    // On the parent, which is not delegated: the machine cannot lift them.
    try group.write("cgroup.max.depth", "\(plan.maxDepth)")
    try group.write("cgroup.max.descendants", "\(plan.maxDescendants)")
    let supervisor = try group.child("supervisor")
    return CgroupScope(group: group, supervisor: supervisor, payload: try delegatedPayload(in: group, plan))
  }

  /// Moving waits for a grace period of the kernel's, some milliseconds, so it is best done beside the boot.
  func enter(_ scope: CgroupScope) throws(Failure) {
    try scope.supervisor.write("cgroup.procs", "0")
  }
}
