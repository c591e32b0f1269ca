import Linux
import MachineSpec

/// What connects a machine's network namespace with the world outside, for one run of the machine.
///
/// Called on the supervisor's thread. It must not stand in the way of the boot: `start` returns at once, and whatever
/// takes time goes on beside.
public protocol NetworkBackend: AnyObject {
  /// One word or two for the operator.
  var description: String { get }

  /// Begins, once process 1 and with it the machine's network namespace is there.
  ///
  /// - Parameter leader: the machine's process 1.
  /// - Throws: `Failure` when the machine cannot have its network; it is taken down then.
  func start(for leader: Pidfd) throws(Failure)

  /// Ends, with everything that belongs to it; the machine has ended, or is about to start anew.
  func stop()
}

/// The back end that a machine's `[Network]` asks for.
public func networkBackend(for section: NetworkSection) -> any NetworkBackend {
  // Modes with an uplink are checked by the spec and announced as missing by the planner until they are here.
  LoopbackOnly()
}

/// A network namespace with nothing in it but the loopback interface, which the machine's systemd brings up.
final class LoopbackOnly: NetworkBackend {
  let description = "loopback only"

  func start(for leader: Pidfd) throws(Failure) {}

  func stop() {}
}
