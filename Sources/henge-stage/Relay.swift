import CLinux
import Glibc
import Linux
import StageProtocol

/// Carries what arrives at listening sockets of one network namespace to the other. It has no capability, no file and
/// no id but that of nobody in the machine; the sockets that it was given are all it can use.
func run(_ request: RelayRequest, userNamespace: UserNamespace, channel: Channel) throws(Failure) {
  let network = Descriptor(adopting: CarrierDescriptor.network)
  let counters = Descriptor(adopting: CarrierDescriptor.extra)
  let doors = try open(request.doors, in: network)
  try enterSmallRoot(on: request.workplace, withPrograms: false)
  try joinNamespaces(userNamespace.descriptor, .user)
  if request.doors.isEmpty { try joinNamespaces(network, .network) }
  try check(clinux_become(65534, 65534), "become", "nobody")
  try Capabilities.confine(dropping: Array(0..<Capabilities.count))
  try check(clinux_set_no_new_privileges(), "give up", "new privileges")
  try hideFromOthers()
  try follow(request.supervisor)
  _ = clinux_raise_descriptor_limit()
  signal(SIGPIPE, SIG_IGN)
  try check(clinux_set_nonblocking(channel.socket.raw, true), "make a channel")

  let size = RelayCounter.allCases.count * MemoryLayout<UInt64>.size
  guard let memory = clinux_map_shared(counters.raw, size) else {
    throw Failure("map", "the counters", errno: .init(rawValue: errno))
  }
  var offers: RelayOffers?
  if request.isOffering {
    offers = try RelayOffers(
      memory: Descriptor(adopting: CarrierDescriptor.words), channel: Descriptor(adopting: CarrierDescriptor.offers))
  }
  let relay = try Relay(
    counters: memory.bindMemory(to: UInt64.self, capacity: RelayCounter.allCases.count), offers: offers)
  for (index, door) in doors.enumerated() {
    let request = request.doors[index]
    relay.publish(UInt32(index), door, datagrams: request.datagrams, isOffered: false, to: request.targets)
  }
  try relay.run(channel)
}

/// Sockets that listen in the machine's network namespace.
private func open(_ doors: [RelayDoor], in network: Descriptor) throws(Failure) -> [Descriptor] {
  guard !doors.isEmpty else { return [] }
  return try openSockets(in: network, count: doors.count) { (give) throws(Failure) in
    let loopback = clinux_interface_index("lo")
    _ = clinux_interface_set_up(loopback, nil, 0)
    for door in doors {
      try check(clinux_address_add(loopback, door.address, door.address.count, 32), "give an address to", "lo")
      let socket = Descriptor(
        adopting: try check(clinux_inet_socket(door.address.count, door.datagrams), "make a socket"))
      try check(
        clinux_inet_bind(socket.raw, door.address, door.address.count, UInt32(door.port), false),
        "listen in the machine on", "\(door.port)")
      if door.datagrams {
        try check(clinux_inet_tell_local(socket.raw), "listen in the machine on", "\(door.port)")
      } else {
        try check(clinux_listen(socket.raw, 4096), "listen in the machine on", "\(door.port)")
      }
      try give(socket)
    }
  }
}

/// What a relay carries, by what it was told: where connections come from, and who of its threads takes them.
final class Relay {
  let loop: RelayLoop
  private let crew: RelayCrew
  /// Connections that the first thread carries itself.
  var load = 0
  private var listeners: [UInt32: any Listener] = [:]
  private var starved: [StreamListener] = []
  private var failure: Failure?

  init(counters: UnsafeMutablePointer<UInt64>, offers: RelayOffers?) throws(Failure) {
    let common = RelayCommon(counters: counters, main: try Inbox(), offers: offers)
    loop = try RelayLoop(common)
    crew = RelayCrew(common)
  }

  /// No descriptor is left for a connection: its listener waits until one is given back.
  func starve(_ listener: StreamListener) {
    loop.forget(listener.socket.raw)
    starved.append(listener)
  }

  private func feed() {
    let waiting = starved
    starved = []
    for listener in waiting { _ = loop.watch(listener.socket.raw, RelayLoop.readable, listener) }
  }

  func publish(_ id: UInt32, _ socket: Descriptor, datagrams: Bool, isOffered: Bool, to targets: [RelayTarget]) {
    withdraw(id)
    let listener: any Listener =
      datagrams
      ? DatagramListener(socket, targets: targets, of: loop)
      : StreamListener(id, socket, isOffered: isOffered, targets: targets, of: self, crew)
    listeners[id] = listener
    _ = loop.watch(socket.raw, RelayLoop.readable, listener)
  }

  private func withdraw(_ id: UInt32) {
    guard let listener = listeners.removeValue(forKey: id) else { return }
    starved.removeAll { $0 === listener }
    loop.forget(listener.socket.raw)
    listener.close()
  }

  private func take(_ channel: Channel) throws(Failure) {
    while true {
      errno = 0
      guard let (bytes, socket) = try channel.socket.receive() else {
        // The other end is the supervisor's: with it goes the machine.
        if errno != EAGAIN { exit(0) }
        return
      }
      switch try? RelayCommand(decoding: bytes) {
      case .publish(let id, let datagrams, let isOffered, let targets)?:
        if let socket { publish(id, socket, datagrams: datagrams, isOffered: isOffered, to: targets) }
      case .withdraw(let id)?: withdraw(id)
      case nil: throw Failure("read", "a command", "it is none")
      }
    }
  }

  private func read(_ note: RelayNote) {
    switch note {
    case .feed: feed()
    case .failed(let failure): self.failure = failure
    case .carry, .withdraw: break
    }
  }

  func run(_ channel: Channel) throws(Failure) {
    let commands = Bell { [unowned self] in
      do throws(Failure) { try take(channel) } catch { failure = error }
    }
    let isWatching =
      loop.watch(channel.socket.raw, RelayLoop.readable, commands)
      && loop.watch(loop.common.main) { [unowned self] in read($0) }
    guard isWatching else { throw Failure("watch", "the channel", errno: .init(rawValue: errno)) }
    var nextSweep: UInt64 = 0
    while true {
      // Sessions of datagrams have no end of their own: now and then those that rest are let go.
      let hasSessions = listeners.values.contains { $0.hasSessions }
      try loop.turn(waitingFor: hasSessions ? 30_000 : -1)
      if let failure { throw failure }
      if loop.time >= nextSweep {
        nextSweep = loop.time + 30_000_000
        for listener in listeners.values { listener.sweep(before: loop.time &- 120_000_000) }
      }
    }
  }
}

/// A published socket.
protocol Listener: Waiter {
  var socket: Descriptor { get }
  var hasSessions: Bool { get }
  func sweep(before time: UInt64)
  func close()
}
