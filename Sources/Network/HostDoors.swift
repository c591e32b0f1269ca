import Glibc
import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Varlink

/// The few places of the host's that the machine may reach, at addresses that nothing else in the machine has: ports on
/// the host's loopback by `HostPort=`, and name servers. There is a relay for them on the host's side; whatever is not
/// named here has no way through it.
final class HostDoors {
  private let context: NetworkContext
  private let doors: [RelayDoor]
  private let counters: Counters
  private var keeper: Keeper?

  init(_ ports: [HostPort], _ servers: [RelayedServer] = [], in context: NetworkContext) throws(Failure) {
    self.context = context
    let loopback = [[127, 0, 0, 1], [UInt8](repeating: 0, count: 15) + [1]]
    let named = ports.flatMap { port in
      port.range.ports.map { number in
        RelayDoor(
          datagrams: port.transport == .udp, address: UserNetwork.host4.bytes, port: number,
          targets: loopback.map { RelayTarget(address: $0, port: number) })
      }
    }
    guard named.count <= 512 else {
      throw Failure("open", "HostPort=", "a machine reaches at most 512 ports of the host", kind: .usage)
    }
    doors =
      servers.flatMap { server in
        [true, false].map {
          RelayDoor(
            datagrams: $0, address: server.address.bytes, port: 53,
            targets: [RelayTarget(address: server.server.bytes, port: 53)])
        }
      } + named
    counters = try Counters()
  }

  func start(for run: NetworkRun, network: Descriptor) {
    guard !doors.isEmpty else { return }
    let request = CarrierRequest.relay(
      RelayRequest(supervisor: getpid(), workplace: context.workplace, doors: doors))
    let keeper = Keeper("relay to the host", in: context) { [context, counters] onEnd throws(Failure) in
      counters.noneOpen()
      return try CarrierProcess(
        request, network: network, extra: counters.file, run: run, group: run.group, in: context, onEnd: onEnd)
    }
    self.keeper = keeper
    keeper.start()
  }

  func stop() {
    keeper?.stop()
    keeper = nil
  }

  var state: JSON {
    guard !doors.isEmpty else { return .null }
    var state = counters.json
    state["process"] = keeper?.process.map { JSON($0.id) } ?? .null
    state["restarts"] = JSON(keeper?.restarts ?? 0)
    return state
  }
}
