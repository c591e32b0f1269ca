import Glibc
import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Varlink

/// `Mode=sockets`: a network namespace with a loopback, and a broker that has the host make what connections of TCP the
/// machine asks for. Relays carry the ports that are published, and questions for names.
final class SocketNetwork: NetworkBackend {
  private let interface: MachineInterface
  private let context: NetworkContext
  private let publisher: PortPublisher
  private let doors: HostDoors
  private let handOff: HandOff
  private let guardian: Guardian
  private var attaching: CarrierProcess?

  init(_ plan: NetworkPlan, _ interface: MachineInterface, in context: NetworkContext) throws(Failure) {
    self.interface = interface
    self.context = context
    handOff = try HandOff(by: "", isRequired: true, in: context)
    publisher = try PortPublisher(plan.ports, to: interface.addresses.map(\.bytes), by: handOff, in: context)
    doors = try HostDoors(plan.hostPorts, plan.relayedServers, in: context)
    guardian = Guardian(context.tell)
  }

  func start(for run: NetworkRun) throws(Failure) {
    stop()
    // The leader is our child and not reaped: its number is nobody else's.
    let network = try Descriptor.open("/proc/\(run.leader)/ns/net")
    // Before there is a broker: what its sockets send passes the guard from the first one on.
    guardian.set(over: run.guarded)
    let request = CarrierRequest.attach(AttachRequest(supervisor: getpid(), interface: interface))
    attaching = try CarrierProcess(request, network: network, run: run, group: run.group, in: context) {
      [unowned self] reason in
      if attaching?.exit != .exited(0) { context.fail(Failure("set up", "the machine's loopback", reason)) }
    }
    handOff.start(for: run, network: network)
    publisher.start(for: run, network: network)
    doors.start(for: run, network: network)
  }

  func stop() {
    handOff.stop()
    doors.stop()
    publisher.stop()
    attaching?.end()
    attaching = nil
  }

  var unitSockets: [Descriptor] { publisher.unitSockets }

  var ports: [PublishedPort] { publisher.ports }

  func publish(_ port: PublishedPort) throws(Failure) { try publisher.publish(port) }

  func withdraw(_ port: PublishedPort) throws(Failure) { try publisher.withdraw(port) }

  var description: String {
    (["sockets (no packets: TCP by the host, names by a relay)", handOff.description] + publisher.descriptions)
      .joined(separator: ", ")
  }

  var state: JSON {
    [
      "mode": .string(NetworkMode.sockets.rawValue), "guarded": .bool(guardian.isSet),
      "unguarded": JSON(guardian.lacking), "interface": .string(interface.name),
      "addresses": interface.addressesState, "ports": JSON(ports.map(\.description)), "relay": publisher.state,
      "hostRelay": doors.state, "handOff": handOff.state,
    ]
  }
}
