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
  let relay = try Relay(counters: memory.bindMemory(to: UInt64.self, capacity: RelayCounter.allCases.count))
  for (index, door) in doors.enumerated() {
    let request = request.doors[index]
    relay.publish(UInt32(index), door, datagrams: request.datagrams, to: request.targets)
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

/// Somebody who waits for a descriptor to be ready.
protocol Waiter: AnyObject {
  func isReady(_ events: UInt32, at descriptor: Int32)
}

/// The relay's loop, and what its parts share.
final class Relay {
  private let poll: Descriptor
  private var waiters: [(any Waiter)?] = []
  private var listeners: [UInt32: any Listener] = [:]
  /// Streams that moved a lot and have more to move: others come first.
  var unfinished: [Stream] = []
  private var starved: [StreamListener] = []
  let counters: UnsafeMutablePointer<UInt64>
  let pipes = PipePool()
  var time: UInt64 = 0

  static let readable: UInt32 = 0x1
  static let writable: UInt32 = 0x4
  static let readHangUp: UInt32 = 0x2000
  static let edge: UInt32 = 1 << 31

  init(counters: UnsafeMutablePointer<UInt64>) throws(Failure) {
    self.counters = counters
    poll = Descriptor(adopting: try check(clinux_poll_make(), "make", "an epoll"))
  }

  func count(_ counter: RelayCounter, _ amount: Int = 1) {
    counters[counter.rawValue] &+= UInt64(bitPattern: Int64(amount))
  }

  func watch(_ descriptor: Int32, _ events: UInt32, _ waiter: any Waiter) -> Bool {
    let index = Int(descriptor)
    while waiters.count <= index { waiters.append(nil) }
    waiters[index] = waiter
    return clinux_poll_add(poll.raw, descriptor, events) == 0
  }

  /// Before the descriptor is closed.
  func forget(_ descriptor: Int32) {
    guard descriptor >= 0, Int(descriptor) < waiters.count else { return }
    waiters[Int(descriptor)] = nil
    _ = clinux_poll_remove(poll.raw, descriptor)
  }

  /// No descriptor is left for a connection: its listener waits until one is given back.
  func starve(_ listener: StreamListener) {
    forget(listener.socket.raw)
    starved.append(listener)
  }

  func feed() {
    guard !starved.isEmpty else { return }
    let waiting = starved
    starved = []
    for listener in waiting { _ = watch(listener.socket.raw, Self.readable, listener) }
  }

  func publish(_ id: UInt32, _ socket: Descriptor, datagrams: Bool, to targets: [RelayTarget]) {
    withdraw(id)
    let listener: any Listener =
      datagrams
      ? DatagramListener(socket, targets: targets, of: self) : StreamListener(socket, targets: targets, of: self)
    listeners[id] = listener
    _ = watch(socket.raw, Self.readable, listener)
  }

  private func withdraw(_ id: UInt32) {
    guard let listener = listeners.removeValue(forKey: id) else { return }
    starved.removeAll { $0 === listener }
    forget(listener.socket.raw)
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
      case .publish(let id, let datagrams, let targets)?:
        if let socket { publish(id, socket, datagrams: datagrams, to: targets) }
      case .withdraw(let id)?: withdraw(id)
      case nil: throw Failure("read", "a command", "it is none")
      }
    }
  }

  func run(_ channel: Channel) throws(Failure) {
    try check(clinux_poll_add(poll.raw, channel.socket.raw, Self.readable), "watch", "the channel")
    var events = [clinux_ready](repeating: clinux_ready(), count: 256)
    var nextSweep: UInt64 = 0
    while true {
      // Sessions of datagrams have no end of their own: now and then those that rest are let go.
      let hasSessions = listeners.values.contains { $0.hasSessions }
      let timeout: Int32 = unfinished.isEmpty ? hasSessions ? 30_000 : -1 : 0
      let count = clinux_poll_wait(poll.raw, &events, Int32(events.count), timeout)
      if count < 0, errno != EINTR { throw Failure("wait for", "sockets", errno: .init(rawValue: errno)) }
      time = clinux_monotonic_microseconds()
      for event in events.prefix(Int(max(0, count))) {
        let descriptor = event.descriptor
        if descriptor == channel.socket.raw {
          try take(channel)
        } else if Int(descriptor) < waiters.count {
          waiters[Int(descriptor)]?.isReady(event.events, at: descriptor)
        }
      }
      let again = unfinished
      unfinished = []
      for stream in again { stream.goOn() }
      if time >= nextSweep {
        nextSweep = time + 30_000_000
        for listener in listeners.values { listener.sweep(before: time &- 120_000_000) }
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
