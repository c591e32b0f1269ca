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
      // One's own group cannot be removed, and all in it is killed: step out first, to where this process came from.
      let isOut = [plan.home, plan.parent].contains { place in
        (try? CgroupDirectory(opening: place).write("cgroup.procs", "0")) != nil
      }
      try? clearGroup(isOut ? path : "\(path)/payload")
    }
    // Of an earlier start of this machine: the lock proves that nobody uses it.
    try clearGroup(path)
    try Self.enable(plan.controllers, in: parent, for: plan.limits)
    let group = try parent.child(plan.name)
    // On the parent, which is not delegated: the machine cannot lift them.
    try group.write("cgroup.max.depth", "\(plan.maxDepth)")
    try group.write("cgroup.max.descendants", "\(plan.maxDescendants)")
    try group.apply(Limit.changes(from: [], to: plan.limits))
    try Self.enable(plan.controllers, in: group, for: plan.limits)
    let supervisor = try group.child("supervisor")
    let scope = CgroupScope(group: group, supervisor: supervisor, payload: try delegatedPayload(in: group, plan))
    scope.show(plan.limits)
    return scope
  }

  /// Moving waits for a grace period of the kernel's, some milliseconds, so it is best done beside the boot.
  func enter(_ scope: CgroupScope) throws(Failure) {
    try scope.supervisor.write("cgroup.procs", "0")
  }
}
