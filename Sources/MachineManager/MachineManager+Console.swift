import Glibc
import Linux
import MachineSpec
import MachineStore
import Varlink

/// The console of a machine.
extension MachineManager {
  /// A seat at the console of a running machine, kept while the machine reboots.
  public struct ConsoleConnection: Sendable {
    /// What the machine prints from now on, and what is typed; at its end when the machine has stopped.
    public let stream: Descriptor
    /// What it printed before.
    public let history: [UInt8]
    private let name: MachineName
    private let manager: MachineManager

    fileprivate init(_ reply: JSON, _ parts: [Descriptor], _ name: MachineName, _ manager: MachineManager) throws {
      guard parts.count >= 2, let logged = reply["logged"]?.intValue, let length = Int(exactly: logged), length >= 0
      else { throw Failure("attach to the console of", name.description, "its supervisor gave no answer") }
      let limit = 2 * MachineStore.consoleLogLimit
      history =
        (parts.count > 2 ? try parts[2].readHead(limit, subject: "the log") : [])
        + (try parts[1].readHead(min(length, limit), subject: "the log"))
      stream = parts[0]
      self.name = name
      self.manager = manager
    }

    /// Tells the machine the size of the terminal, in characters.
    public func resize(columns: Int, rows: Int) {
      // On a connection of its own: ours waits for the end.
      _ = try? manager.connect(name)?.call(
        "io.henge.Machine.ResizeConsole", ["columns": JSON(columns), "rows": JSON(rows)], timeout: 5000)
    }
  }

  private func consoleClient(_ name: MachineName) throws(Failure) -> VarlinkClient {
    if let client = try connect(name) { return client }
    throw Failure(
      "attach to the console of", name.description, "it is not running",
      advice: "'hengectl console --history \(name)' shows what was printed")
  }

  /// Attaches to the console of a running machine.
  public func openConsole(of name: MachineName) throws(Failure) -> ConsoleConnection {
    let client = try consoleClient(name)
    do {
      let reply = try client.call("io.henge.Machine.OpenConsole", timeout: 30000)
      return try ConsoleConnection(reply, client.takeDescriptors(), name, self)
    } catch let failure as Failure {
      throw failure
    } catch {
      throw explained(error, name)
    }
  }

  /// Sits down at the console of a running machine until it stops.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - body: given the seat, and the connection on which a reply tells that the machine has stopped; it returns then,
  ///     or with false to leave before.
  public func sitAtConsole(
    of name: MachineName, _ body: (ConsoleConnection, VarlinkClient) throws -> Bool
  ) throws(Failure) {
    let client = try consoleClient(name)
    do {
      try client.callMore("io.henge.Machine.OpenConsole") { reply in
        guard reply["logged"] != nil, reply["logged"] != .null else { return true }
        return try body(try ConsoleConnection(reply, client.takeDescriptors(), name, self), client)
      }
    } catch let failure as Failure {
      throw failure
    } catch {
      throw explained(error, name)
    }
  }
}
