import Linux
import MachineSpec
import Varlink

extension MachineManager {
  /// How something that ran inside a machine ended.
  public struct ExecutionEnd: Sendable {
    /// The exit code; 128 and the signal's number for what a signal ended.
    public var code: Int32
    /// Why it did not run, or not to its end.
    public var message: String?
  }

  /// Runs something inside a machine.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - method: `Execute` or `Login`.
  ///   - parameters: what the method takes.
  ///   - descriptors: the streams that go along.
  ///   - sent: called when the call is on its way.
  ///   - terminal: given the controlling side of a terminal, if one was asked for; it copies until there is a reply, and
  ///     returns whether to go on.
  /// - Returns: how it ended; nil when `terminal` did not want to know.
  public func execute(
    _ name: MachineName, _ method: String, _ parameters: JSON, passing descriptors: [Descriptor] = [],
    sent: (VarlinkClient) throws -> Void = { _ in },
    terminal: (Descriptor, VarlinkClient) throws -> Bool = { _, _ in true }
  ) throws(Failure) -> ExecutionEnd? {
    let client = try connectRunning(name, for: method, to: "run a command in")
    var end: ExecutionEnd?
    do {
      try client.callMore(
        "io.henge.Machine.\(method)", parameters, passing: descriptors, sent: { try sent(client) }
      ) { reply in
        if let descriptor = client.takeDescriptors().first { return try terminal(descriptor, client) }
        let message = reply["message"]?.stringValue
        if let code = reply["exit"]?.intValue {
          end = ExecutionEnd(code: Int32(clamping: code), message: message)
        } else if let signal = reply["signal"]?.intValue {
          end = ExecutionEnd(code: 128 + Int32(clamping: min(max(signal, 0), 127)), message: message)
        }
        return true
      }
    } catch let failure as Failure {
      throw failure
    } catch {
      throw explained(error, name)
    }
    return end
  }
}
