import CLinux
import Glibc
import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Varlink

/// `Mode=veth`: a pair of virtual Ethernet devices between the machine and the host, which forwards and masquerades; and
/// a table of the machine's own in the host's packet filter, which is there before the pair and goes after it.
final class VethNetwork: NetworkBackend {
  private let veth: VethPlan
  private let interface: MachineInterface
  private let context: NetworkContext
  private let publisher: PortPublisher
  private let doors: HostDoors
  private var leader: Int32?
  private var attaching: CarrierProcess?
  private var isAttached = false

  init(
    _ plan: NetworkPlan, _ veth: VethPlan, _ interface: MachineInterface, in context: NetworkContext
  ) throws(Failure) {
    self.veth = veth
    self.interface = interface
    self.context = context
    publisher = try PortPublisher(plan.ports, to: interface.addresses.map(\.bytes), in: context)
    doors = try HostDoors(plan.hostPorts, plan.relayedServers, in: context)
    let name = veth.filter.name
    try context.noteFilter(name) { [tell = context.tell] in
      do throws(Failure) { try PacketFilter.remove(table: name) } catch { tell(error.description) }
    }
    try PacketFilter.apply(veth.filter.script)
    try Forwarding.turnOn(includingIPv6: veth.forwardsIPv6, context.tell)
  }

  func start(for run: NetworkRun) throws(Failure) {
    stop()
    leader = run.leader
    // The leader is our child and not reaped: its number is nobody else's.
    let network = try Descriptor.open("/proc/\(run.leader)/ns/net")
    let request = CarrierRequest.attach(
      AttachRequest(supervisor: getpid(), hostEnd: veth.hostEnd, interface: interface))
    attaching = try CarrierProcess(request, network: network, run: run, group: run.group, in: context) {
      [unowned self] reason in attached(reason)
    }
    publisher.start(for: run, network: network)
    doors.start(for: run, network: network)
  }

  private func attached(_ reason: String) {
    isAttached = attaching?.exit == .exited(0)
    if !isAttached { context.fail(Failure("connect", "the machine", reason)) }
  }

  func stop() {
    doors.stop()
    publisher.stop()
    attaching?.end()
    attaching = nil
    isAttached = false
    leader = nil
    // Both ends go; the kernel would come to it some time after the machine's network namespace has ended.
    let index = clinux_interface_index(veth.hostEnd.name)
    if index > 0 { _ = clinux_interface_remove(index) }
  }

  var unitSockets: [Descriptor] { publisher.unitSockets }

  var ports: [PublishedPort] { publisher.ports }

  func publish(_ port: PublishedPort) throws(Failure) { try publisher.publish(port) }

  func withdraw(_ port: PublishedPort) throws(Failure) { try publisher.withdraw(port) }

  var description: String {
    let addresses = interface.addresses.compactMap { IPAddress($0.bytes)?.description }
    return (["veth (\(veth.hostEnd.name), masqueraded)"] + addresses + publisher.descriptions).joined(separator: ", ")
  }

  var state: JSON {
    let counters = leader.flatMap { InterfaceCounters(of: interface.name, process: $0) }
    return [
      "mode": .string(NetworkMode.veth.rawValue), "hostInterface": .string(veth.hostEnd.name),
      "filter": .string(veth.filter.name), "attached": .bool(isAttached), "interface": .string(interface.name),
      "addresses": interface.addressesState, "ports": JSON(ports.map(\.description)), "relay": publisher.state,
      "hostRelay": doors.state, "bytesReceived": JSON(counters?.received ?? 0),
      "bytesSent": JSON(counters?.sent ?? 0),
    ]
  }
}

/// The host's forwarding of packets from one interface to another, which is off on a host that is no router.
private enum Forwarding {
  /// Turns it on where it is off. It stays on: what else was started meanwhile may have come to rely on it.
  static func turnOn(includingIPv6: Bool, _ tell: (String) -> Void) throws(Failure) {
    try turnOn("ipv4/ip_forward", tell)
    guard includingIPv6, !isOn("ipv6/conf/all/forwarding") else { return }
    // A host that forwards no more listens to its own router, unless it is told to all the same.
    for interface in (try? Descriptor.open("/proc/sys/net/ipv6/conf", .directory).names()) ?? []
    where read("ipv6/conf/\(interface)/accept_ra") == "1" {
      try write("2", "ipv6/conf/\(interface)/accept_ra")
    }
    try turnOn("ipv6/conf/all/forwarding", tell)
  }

  private static func turnOn(_ setting: String, _ tell: (String) -> Void) throws(Failure) {
    guard !isOn(setting) else { return }
    try write("1", setting)
    tell("net/\(setting) was off, and is on now")
  }

  private static func isOn(_ setting: String) -> Bool { read(setting).map { $0 != "0" } ?? false }

  private static func read(_ setting: String) -> String? {
    let path = "/proc/sys/net/\(setting)"
    guard let bytes = try? Descriptor.open(path).readHead(16, subject: path) else { return nil }
    return String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self)
  }

  private static func write(_ value: String, _ setting: String) throws(Failure) {
    let path = "/proc/sys/net/\(setting)"
    do throws(Failure) {
      try Descriptor.open(path, .write).writeAll(value.utf8, subject: path)
    } catch {
      throw Failure(
        "have the host forward packets by", path, error.reason,
        advice: "sysctl -w net.\(setting.split(separator: "/").joined(separator: "."))=\(value)", kind: .refused)
    }
  }
}
