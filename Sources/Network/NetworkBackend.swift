import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Systemd
import Varlink

/// What connects a machine's network namespace with the world outside.
///
/// Called on the supervisor's thread. It must not stand in the way of the boot: `start` returns at once, and whatever
/// takes time goes on beside. One back end serves all runs of a machine until it has stopped: what the world sees of
/// the machine, such as a published port, stays while the machine boots anew.
public protocol NetworkBackend: AnyObject {
  /// One line for the operator.
  var description: String { get }

  /// All that is known, for programs; with what was counted.
  var state: JSON { get }

  /// Begins, once process 1 and with it the machine's network namespace is there.
  ///
  /// - Parameter run: this run of the machine.
  /// - Throws: `Failure` when the machine cannot have its network; it is taken down then.
  func start(for run: NetworkRun) throws(Failure)

  /// Ends with this run of the machine, which has ended or is about to start anew.
  func stop()

  /// Listening sockets of the host's for the machine's own socket units, in the order of the plan's.
  var unitSockets: [Descriptor] { get }

  /// The ports of the host that lead into the machine.
  var ports: [PublishedPort] { get }

  /// Publishes one more.
  ///
  /// - Throws: `Failure` that names the port when it is taken, or not this process's to take.
  func publish(_ port: PublishedPort) throws(Failure)

  /// Takes one back; connections through it end.
  ///
  /// - Throws: `Failure` when there is no such port.
  func withdraw(_ port: PublishedPort) throws(Failure)
}

/// What a back end has from its supervisor.
public struct NetworkContext {
  /// The supervisor's loop.
  public var loop: EventLoop
  /// A folder of the host's that nobody looks for anything in.
  public var workplace: String
  /// A sealed copy of the stage.
  public var program: () throws(Failure) -> Descriptor
  /// Told what happens, one line each.
  public var tell: (String) -> Void
  /// Told of a table of the host's packet filter, and what takes it back, before it is made.
  public var noteFilter: (_ table: String, _ undo: @escaping () -> Void) throws(Failure) -> Void
  /// Told that the machine cannot have its network after all: it is taken down then.
  public var fail: (Failure) -> Void

  /// What a back end has from its supervisor.
  public init(
    loop: EventLoop, workplace: String, program: @escaping () throws(Failure) -> Descriptor,
    tell: @escaping (String) -> Void,
    noteFilter: @escaping (_ table: String, _ undo: @escaping () -> Void) throws(Failure) -> Void,
    fail: @escaping (Failure) -> Void
  ) {
    self.loop = loop
    self.workplace = workplace
    self.program = program
    self.tell = tell
    self.noteFilter = noteFilter
    self.fail = fail
  }
}

/// One run of a machine, from the start of its process 1 to its end.
public struct NetworkRun {
  /// The machine's process 1: this process's child, not reaped as long as the run lasts.
  public var leader: Int32
  /// The machine's user namespace.
  public var userNamespace: Descriptor
  /// The control group that relays are born in.
  public var group: CgroupDirectory
  /// The control group that forwarders are born in, which has nobody else in it.
  public var guarded: CgroupDirectory
  /// Where the machine's connections wait, with `HandOff=yes`.
  public var connections: Descriptor?

  /// One run of a machine.
  public init(
    leader: Int32, userNamespace: Descriptor, group: CgroupDirectory, guarded: CgroupDirectory,
    connections: Descriptor? = nil
  ) {
    self.leader = leader
    self.userNamespace = userNamespace
    self.group = group
    self.guarded = guarded
    self.connections = connections
  }
}

/// The back end that a plan asks for, with its ports taken: what cannot be published is refused here, before anything
/// of the machine runs.
public func networkBackend(for plan: NetworkPlan, in context: NetworkContext) throws(Failure) -> any NetworkBackend {
  if plan.mode == .hostInsecure { return HostNetwork() }
  guard let interface = plan.interface else { return LoopbackOnly() }
  if let veth = plan.veth { return try VethNetwork(plan, veth, interface, in: context) }
  if plan.mode == .sockets { return try SocketNetwork(plan, interface, in: context) }
  guard let forwarder = plan.forwarder else { return LoopbackOnly() }
  return try ForwardedNetwork(plan, forwarder, interface, in: context)
}

/// A network namespace with nothing in it but the loopback interface, which the machine's systemd brings up.
final class LoopbackOnly: NetworkBackend {
  let description = "loopback only"
  let ports: [PublishedPort] = []
  let unitSockets: [Descriptor] = []

  var state: JSON { ["mode": .string(NetworkMode.none.rawValue)] }

  func start(for run: NetworkRun) throws(Failure) {}

  func stop() {}

  func publish(_ port: PublishedPort) throws(Failure) {
    throw Failure(
      "publish", port.description, "the machine has a loopback only", advice: "set Mode=user", kind: .usage)
  }

  func withdraw(_ port: PublishedPort) throws(Failure) {
    throw Failure("withdraw", port.description, "it is not published", kind: .notFound)
  }
}

extension MachineInterface {
  /// Its addresses, for `status --json`.
  var addressesState: JSON {
    .array(addresses.compactMap { address in IPAddress(address.bytes).map { .string("\($0)/\(address.prefix)") } })
  }
}
