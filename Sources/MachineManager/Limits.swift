import Linux
import MachineSpec
import MachineStore
import Varlink

extension MachineManager {
  /// Changes the limits of a machine: at once where it runs, and for its next starts where they are to be kept.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - limits: `KEY=VALUE` in the words of `[Resources]`, or `KEY=` to be without.
  ///   - isKept: whether to keep them in the spec.
  /// - Returns: warnings.
  /// - Throws: `Failure`; nothing has changed then.
  public func setLimits(_ name: MachineName, _ limits: [String], isKept: Bool) throws(Failure) -> [String] {
    let assignments: [String]
    do throws(SpecError) {
      assignments = try LimitsDropIn.assignments(limits)
    } catch {
      throw Failure("limit", name.description, error.description, kind: .usage)
    }
    if let client = try connect(name) {
      do {
        let reply = try client.call(
          "io.henge.Machine.SetLimits", ["limits": JSON(limits), "persist": .bool(isKept)], timeout: 30000)
        return reply["warnings"]?.arrayValue?.compactMap(\.stringValue) ?? []
      } catch {
        throw explained(error, name)
      }
    }
    guard isKept else {
      throw Failure(
        "limit", name.description, "it is not running", advice: "--persist keeps the limits for its next start")
    }
    guard let lock = try store.lock(name) else { throw store.busy(name, "limit", "try again") }
    defer { withExtendedLifetime(lock) {} }
    return try store.keepLimits(assignments, of: name)
  }
}
