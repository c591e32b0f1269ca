import Linux
import MachinePlan
import MachineSpec
import MachineStore
import Varlink

/// `SetLimits`: everything is checked before the first thing changes, and what was changed is taken back when a later
/// step fails.
extension Supervisor {
  func setLimits(_ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    let arguments = call.parameters["limits"]?.arrayValue?.compactMap(\.stringValue) ?? []
    let isKept = call.parameters["persist"]?.boolValue ?? false
    guard let host, let step = plan?.group else { throw Failure("limit", name.description, "it is \(phase.name)") }
    guard !isChangingLimits else {
      return waitingForLimits.append { [unowned self] in
        do {
          try setLimits(call, responder)
        } catch {
          responder.fail(VarlinkError(error as? Failure ?? Failure("limit", name.description, "\(error)")))
          limitsChanged()
        }
      }
    }
    let wanted = try limits(after: arguments)
    let (old, changes) = (step.limits, Limit.changes(from: step.limits, to: wanted.limits))
    let policy = wanted.spec.resources.oomPolicy
    if policy == .kill || policy == .stop, memoryWatch == nil,
      !changes.contains(where: { $0.limit.controller == "memory" })
    {
      throw Failure(
        "set OOMPolicy= of", name.description, "its control group has no memory controller, so nothing is seen",
        kind: .refused)
    }
    isChangingLimits = true
    cgroups.apply(changes, to: host.scope) { [unowned self] result in
      isChangingLimits = false
      defer { limitsChanged() }
      do throws(Failure) {
        try result.get()
        var warnings = wanted.warnings
        if isKept {
          do throws(Failure) {
            warnings += try store.keepLimits(wanted.assignments, of: name)
          } catch {
            // Both or neither.
            let back = Limit.changes(from: wanted.limits, to: old)
            cgroups.apply(back, to: host.scope) { _ in }
            throw error
          }
        }
        spec = wanted.spec
        plan?.group?.limits = wanted.limits
        // The first limit on memory may have brought the controller.
        if memoryWatch == nil { watchMemory() }
        startAutoScale()
        if !changes.isEmpty { note(event: "limits", ["limits": JSON(changes.map { "\($0.limit)" })]) }
        responder.finish(["warnings": JSON(warnings)])
      } catch {
        responder.fail(VarlinkError(error))
      }
    }
  }

  /// Lets the next one change them.
  func limitsChanged() {
    if !isChangingLimits && !waitingForLimits.isEmpty { waitingForLimits.removeFirst()() }
  }

  /// What would hold after some assignments; nothing is changed.
  private func limits(
    after arguments: [String]
  ) throws -> (spec: Spec, limits: [Limit], assignments: [String], warnings: [String]) {
    do {
      let assignments = try LimitsDropIn.assignments(arguments)
      guard !assignments.isEmpty else { throw Failure("limit", name.description, "no limit is named", kind: .usage) }
      let file = Spec.File(name: "\(name)", bytes: Array(spec.text.utf8))
      let (wanted, diagnostics) = try MachineStore.checked(Spec.parse(files: [file], commandLine: assignments))
      let capacity = HostCapacity(for: wanted.resources, manager: hostManager, keeper: plan?.group?.keeper ?? .nobody)
      let limits = try wanted.resources.limits(on: capacity)
      // What the spec as it was is warned of has been said at the start.
      let warnings = diagnostics.filter { $0.file != "\(name)" }.map(\.description)
      return (wanted, limits, assignments, warnings)
    } catch let error as SpecError {
      throw Failure("limit", name.description, error.description, kind: .usage)
    } catch let error as PlanError {
      throw Failure(
        "limit", name.description, error.reason, advice: error.advice, kind: error.isHostsFault ? .refused : .usage)
    }
  }
}
