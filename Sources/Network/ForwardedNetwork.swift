import Glibc
import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Varlink

/// `Mode=user`: a tap device in the machine's network namespace, a forwarder in user space behind it, and relays for
/// the ports that are published.
final class ForwardedNetwork: NetworkBackend {
  private let plan: NetworkPlan
  private let forwarder: PlannedForwarder
  private let tap: MachineInterface
  private let context: NetworkContext
  private var leader: Int32?
  private var keeper: Keeper?
  /// Its end closes with this process, whatever becomes of it; a forwarder that watches the other one ends then.
  private var lifeline: Descriptor?
  private let guardian: Guardian
  private let publisher: PortPublisher
  private let doors: HostDoors
  private let handOff: HandOff?

  init(_ plan: NetworkPlan, _ forwarder: PlannedForwarder, _ tap: MachineInterface, in context: NetworkContext)
    throws(Failure)
  {
    self.plan = plan
    self.forwarder = forwarder
    self.tap = tap
    self.context = context
    guardian = Guardian(context.tell)
    handOff = plan.handOff ? try HandOff(by: tap.name, in: context) : nil
    publisher = try PortPublisher(plan.ports, to: tap.addresses.map(\.bytes), by: handOff, in: context)
    doors = try HostDoors(plan.hostPorts, in: context)
  }

  func start(for run: NetworkRun) throws(Failure) {
    stop()
    leader = run.leader
    // The leader is our child and not reaped: its number is nobody else's.
    let network = try Descriptor.open("/proc/\(run.leader)/ns/net")
    let lifeline = try SocketPair(packets: false)
    self.lifeline = lifeline.first
    guardian.set(over: run.guarded)
    let request = CarrierRequest.forward(
      ForwardRequest(
        supervisor: getpid(), workplace: context.workplace, tap: tap, program: forwarder.path,
        arguments: ForwarderProgram.arguments(forwarder, tap: tap)))
    let keeper = Keeper("\(forwarder.kind)", in: context) { [context] onEnd throws(Failure) in
      try CarrierProcess(
        request, network: network, extra: lifeline.second, run: run, group: run.guarded, in: context, onEnd: onEnd)
    }
    self.keeper = keeper
    keeper.start()
    handOff?.start(for: run, network: network)
    publisher.start(for: run, network: network)
    doors.start(for: run, network: network)
  }

  func stop() {
    handOff?.stop()
    doors.stop()
    publisher.stop()
    keeper?.stop()
    keeper = nil
    lifeline = nil
    leader = nil
  }

  var unitSockets: [Descriptor] { publisher.unitSockets }

  var ports: [PublishedPort] { publisher.ports }

  func publish(_ port: PublishedPort) throws(Failure) { try publisher.publish(port) }

  func withdraw(_ port: PublishedPort) throws(Failure) { try publisher.withdraw(port) }

  var description: String {
    let why = forwarder.reason.isEmpty ? "" : ": \(forwarder.reason)"
    let addresses = tap.addresses.compactMap { IPAddress($0.bytes)?.description }
    let handedOff = handOff.map { [$0.description] } ?? []
    return (["user (\(forwarder.kind)\(why))"] + addresses + handedOff + publisher.descriptions).joined(separator: ", ")
  }

  var state: JSON {
    let counters = leader.flatMap { InterfaceCounters(of: tap.name, process: $0) }
    return [
      "mode": .string(NetworkMode.user.rawValue), "forwarder": .string(forwarder.kind.rawValue),
      "reason": .string(forwarder.reason), "process": keeper?.process.map { JSON($0.id) } ?? .null,
      "guarded": .bool(guardian.isSet), "unguarded": JSON(guardian.lacking),
      "restarts": JSON(keeper?.restarts ?? 0), "lastEnd": JSON(keeper?.lastEnd), "interface": .string(tap.name),
      "addresses": tap.addressesState,
      "ports": JSON(ports.map(\.description)), "relay": publisher.state, "hostRelay": doors.state,
      "handOff": handOff?.state ?? .null,
      "bytesReceived": JSON(counters?.received ?? 0), "bytesSent": JSON(counters?.sent ?? 0),
    ]
  }
}

/// What the kernel counted of an interface, as the machine sees it.
struct InterfaceCounters {
  var received: UInt64
  var sent: UInt64

  /// By `/proc/PID/net/dev`, which shows the network namespace of that process; its names are the machine's to give, so
  /// only the one line is looked at.
  init?(of interface: String, process: Int32) {
    let path = "/proc/\(process)/net/dev"
    guard let bytes = try? Descriptor.open(path).readAll(limit: 1 << 20, subject: path) else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, parts[0].split(separator: " ").last.map(String.init) == interface else { continue }
      let numbers = parts[1].split(separator: " ").map { UInt64($0) ?? 0 }
      guard numbers.count > 8 else { return nil }
      (received, sent) = (numbers[0], numbers[8])
      return
    }
    return nil
  }
}
