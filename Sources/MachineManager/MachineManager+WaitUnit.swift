import Linux
import MachineSpec
import Varlink

extension MachineManager {
  /// Waits until a unit of a running machine is active.
  ///
  /// - Parameters:
  ///   - unit: its whole name.
  ///   - name: the machine.
  ///   - timeout: in milliseconds; nil waits as long as it takes.
  /// - Returns: the unit: `name`, `description`, `load`, `active`, `sub`.
  /// - Throws: `Failure` when it fails, does not exist, the machine stops, or the time is over.
  public func wait(forUnit unit: String, of name: MachineName, timeout: Int? = nil) throws(Failure) -> JSON {
    let client = try connectRunning(name, for: "WaitUnit", to: "wait for a unit of")
    do {
      return try client.call("io.henge.Machine.WaitUnit", ["unit": .string(unit)], timeout: timeout)["unit"] ?? .null
    } catch VarlinkFailure.timedOut {
      throw Failure(
        "wait for", unit, "the time was over", advice: "'hengectl units \(name)' shows how it is", kind: .timedOut)
    } catch {
      throw explained(error, name)
    }
  }
}
