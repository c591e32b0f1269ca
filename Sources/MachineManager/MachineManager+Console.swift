import CLinux
import Glibc
import Linux
import MachineSpec
import MachineStore
import Varlink

/// The console of a machine.
extension MachineManager {
  /// A seat at the console of a running machine, kept while the machine reboots.
  public final class ConsoleConnection {
    /// What the machine prints from now on, and what is typed; at its end when the machine has stopped.
    public let stream: Descriptor
    /// What it printed before.
    public let history: [UInt8]
    private let client: VarlinkClient

    fileprivate init(stream: Descriptor, history: [UInt8], client: VarlinkClient) {
      self.stream = stream
      self.history = history
      self.client = client
    }

    /// Tells the machine the size of the terminal, in characters.
    public func resize(columns: Int, rows: Int) {
      _ = try? client.call(
        "io.henge.Machine.ResizeConsole", ["columns": JSON(columns), "rows": JSON(rows)], timeout: 5000)
    }
  }

  /// Sits down at the console of a running machine.
  public func openConsole(of name: MachineName) throws(Failure) -> ConsoleConnection {
    guard let client = try connect(name) else {
      throw Failure(
        "attach to the console of", name.description, "it is not running",
        advice: "'hengectl console --history \(name)' shows what was printed")
    }
    do {
      let reply = try client.call("io.henge.Machine.OpenConsole", timeout: 30000)
      let parts = client.takeDescriptors()
      guard parts.count >= 2, let logged = reply["logged"]?.intValue, let length = Int(exactly: logged), length >= 0
      else { throw Failure("attach to the console of", name.description, "its supervisor gave no answer") }
      var history: [UInt8] = []
      if parts.count > 2 { history = try parts[2].readHead(2 * MachineStore.consoleLogLimit, subject: "the log") }
      history += try parts[1].readHead(min(length, 2 * MachineStore.consoleLogLimit), subject: "the log")
      return ConsoleConnection(stream: parts[0], history: history, client: client)
    } catch let failure as Failure {
      throw failure
    } catch {
      throw explained(error, name)
    }
  }
}
