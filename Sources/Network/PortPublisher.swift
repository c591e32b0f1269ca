import CLinux
import Glibc
import Linux
import MachinePlan
import MachineSpec
import StageProtocol
import Varlink

/// The ports of the host that lead into a machine. The sockets stay as long as the machine is not stopped, so that a
/// client that comes while the machine boots anew is served after it; the relay belongs to a run.
final class PortPublisher {
  private let context: NetworkContext
  private let targets: [[UInt8]]
  private var published: [(port: PublishedPort, entries: [Entry])] = []
  private var nextID: UInt32 = 0
  private var run: (run: NetworkRun, network: Descriptor)?
  private(set) var keeper: Keeper?
  private let counters: Counters
  private let handOff: HandOff?

  private struct Entry {
    var id: UInt32
    var socket: Descriptor
    var guestPort: UInt16
    /// Whether what it accepts may be given to the machine.
    var isOffered = false
  }

  /// Each takes a descriptor of the supervisor's, of which it has a thousand.
  private static let limit = 512

  /// Takes the ports of the host.
  ///
  /// - Parameters:
  ///   - targets: the machine's addresses, of 4 or 16 bytes.
  ///   - handOff: by whom those who accept get the host's sockets; nil where there is no hand-off.
  /// - Throws: `Failure` of kind `refused` that names the first that cannot be had.
  init(
    _ ports: [PublishedPort], to targets: [[UInt8]], by handOff: HandOff? = nil, in context: NetworkContext
  ) throws(Failure) {
    self.context = context
    self.targets = targets
    self.handOff = handOff
    counters = try Counters()
    for port in ports { try add(port) }
  }

  /// Those that no relay takes connections from.
  var unitSockets: [Descriptor] {
    published.filter { $0.port.socketUnit != nil }.flatMap { $0.entries.map(\.socket) }
  }

  var ports: [PublishedPort] { published.map(\.port) }

  /// The ports as a part of a line for the operator; nothing where there are none.
  var descriptions: [String] {
    let shown = ports.prefix(16).map(\.description) + (ports.count > 16 ? ["…"] : [])
    return shown.isEmpty ? [] : ["ports \(shown.joined(separator: " "))"]
  }

  private func add(_ port: PublishedPort) throws(Failure) {
    if let other = published.first(where: { $0.port.collides(with: port) }) {
      throw Failure("publish", "\(port)", "the machine has '\(other.port)' already", kind: .refused)
    }
    let count = published.reduce(port.host.ports.count) { $0 + $1.entries.count }
    guard count <= Self.limit else {
      throw Failure("publish", "\(port)", "a machine has at most \(Self.limit) ports", kind: .refused)
    }
    var entries: [Entry] = []
    for (host, guest) in zip(port.host.ports, port.guest.ports) {
      let mayBeOffered = handOff != nil && port.transport == .tcp && port.socketUnit == nil
      var isOffered = false
      let socket = try HostSocket.open(port.transport, port.bind, host, forBoth: mayBeOffered) {
        (socket) throws(Failure) in
        if port.socketUnit != nil {
          try check(clinux_stream_only_listen(socket.raw), "keep to listening the socket of", "\(port)")
        }
        // What is accepted has the same filter, which young kernels let only the host's root set. A relay does without.
        if mayBeOffered { isOffered = clinux_stream_only_listen(socket.raw) == 0 }
      }
      entries.append(Entry(id: nextID, socket: socket, guestPort: guest, isOffered: isOffered))
      nextID += 1
    }
    published.append((port, entries))
  }

  func publish(_ port: PublishedPort) throws(Failure) {
    guard port.socketUnit == nil else {
      throw Failure(
        "publish", "\(port)", "a machine's systemd gets sockets when it starts, and not later",
        advice: "write it as Port= in the spec, or leave the socket unit away", kind: .usage)
    }
    try add(port)
    guard run != nil else { return }
    if let relay = keeper?.process, let last = published.last {
      tell(relay, of: last)
    } else {
      startRelay()
    }
  }

  func withdraw(_ port: PublishedPort) throws(Failure) {
    guard let index = published.firstIndex(where: { $0.port == port && port.socketUnit == nil }) else {
      throw Failure(
        "withdraw", "\(port)", "it is not published", advice: "'hengectl port NAME list' shows what is",
        kind: .notFound)
    }
    for entry in published[index].entries {
      keeper?.process?.send(RelayCommand.withdraw(id: entry.id).encoded)
    }
    published.remove(at: index)
  }

  func start(for run: NetworkRun, network: Descriptor) {
    self.run = (run, network)
    startRelay()
  }

  func stop() {
    keeper?.stop()
    keeper = nil
    run = nil
  }

  /// Nobody has a relay who publishes nothing.
  private func startRelay() {
    guard let (run, network) = run, keeper == nil,
      published.contains(where: { $0.port.socketUnit == nil })
    else { return }
    let offering = handOff?.forRelays
    let request = CarrierRequest.relay(
      RelayRequest(supervisor: getpid(), workplace: context.workplace, isOffering: offering != nil))
    let keeper = Keeper("relay", in: context) { [unowned self] onEnd throws(Failure) in
      counters.noneOpen()
      let relay = try CarrierProcess(
        request, network: network, extra: counters.file, more: offering ?? [], run: run, group: run.group, in: context,
        onEnd: onEnd)
      for one in published { tell(relay, of: one) }
      return relay
    }
    self.keeper = keeper
    keeper.start()
  }

  private func tell(_ relay: CarrierProcess, of published: (port: PublishedPort, entries: [Entry])) {
    for entry in published.entries where published.port.socketUnit == nil {
      let command = RelayCommand.publish(
        id: entry.id, datagrams: published.port.transport == .udp, isOffered: entry.isOffered,
        targets: targets.map { RelayTarget(address: $0, port: entry.guestPort) })
      relay.send(command.encoded, passing: entry.socket)
    }
  }

  var state: JSON {
    var state = counters.json
    state["process"] = keeper?.process.map { JSON($0.id) } ?? .null
    state["restarts"] = JSON(keeper?.restarts ?? 0)
    state["lastEnd"] = JSON(keeper?.lastEnd)
    return state
  }
}

/// What relays count, in memory that they share with the supervisor: looking costs no question.
final class Counters {
  let file: Descriptor

  init() throws(Failure) {
    file = Descriptor(adopting: try check(clinux_memfd_create("counters", false), "make an anonymous file"))
    try check(ftruncate(file.raw, off_t(RelayCounter.allCases.count * 8)), "make room for", "counters")
  }

  /// A relay that ended has closed its connections without counting.
  func noneOpen() {
    var zero: UInt64 = 0
    _ = pwrite(file.raw, &zero, 8, off_t(RelayCounter.open.rawValue * 8))
  }

  private var values: [UInt64] {
    var values = [UInt64](repeating: 0, count: RelayCounter.allCases.count)
    _ = pread(file.raw, &values, values.count * 8, 0)
    return values
  }

  var json: JSON {
    let values = values
    func value(_ counter: RelayCounter) -> JSON { JSON(Int64(clamping: values[counter.rawValue])) }
    return [
      "connections": value(.connections), "open": value(.open), "bytesIn": value(.bytesIn),
      "bytesOut": value(.bytesOut), "refused": value(.refused), "datagrams": value(.datagrams),
      "handedOver": value(.handedOver),
    ]
  }
}
