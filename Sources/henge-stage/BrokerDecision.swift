import CLinux
import Glibc
import Linux
import StageProtocol

/// Decides on one waiting call after the other. It waits for nothing but the next one, and for what relays offer.
///
/// What the caller's memory and descriptors hold may change at any moment, by another of its threads. So the address is
/// read once, and the host's socket is on its way to it before the caller has it; what the caller's own call does after
/// that to that socket, or to any other that it has put in its place, is bounded by what no socket made here can get rid
/// of: the guard over this process's control group, the interface that it is bound to, and, where the kernel lets us, a
/// filter that lets nobody answer but whom it was made for.
final class Broker {
  private enum Outcome {
    /// The kernel goes on with the call; counted as this.
    case goOn(HandOffCounter?)
    case answer(Int32, HandOffCounter?)
    /// It has its answer.
    case done(HandOffCounter?)
    /// The caller is gone.
    case gone
  }

  private let offers: BrokerOffers
  private let acceptance: BrokerAcceptance
  private let listener: Descriptor
  private let inside: Descriptor
  private let outside: Descriptor
  private let processes: Descriptor
  private let interface: String
  private let counters: UnsafeMutablePointer<UInt64>
  private let machine: UInt64
  private let host: UInt64
  private let routes: KnownRoutes
  /// The address of the call in hand, as it was read once.
  private let address = UnsafeMutableRawBufferPointer.allocate(byteCount: 128, alignment: 16)
  /// The caller's socket as the call in hand names it. It is closed when that is answered: nobody waits for it.
  private var taken: Int32 = -1

  init(
    offers: BrokerOffers, listener: Descriptor, inside: Descriptor, outside: Descriptor, processes: Descriptor,
    interface: String, routes: consuming KnownRoutes, counters: UnsafeMutablePointer<UInt64>
  ) {
    self.offers = offers
    acceptance = BrokerAcceptance(listener: listener, processes: processes, offers: offers)
    self.listener = listener
    self.inside = inside
    self.outside = outside
    self.processes = processes
    self.interface = interface
    self.counters = counters
    self.routes = routes
    machine = clinux_socket_namespace(inside.raw)
    host = clinux_socket_namespace(outside.raw)
  }

  deinit { address.deallocate() }

  func run(slot: UnsafeMutableRawPointer) throws(Failure) -> Never {
    var call = clinux_held_call()
    // One that a broker had in hand when it ended: nobody else answers it.
    if clinux_trap_held(slot, &call) {
      settle(call, isRepeated: true)
      clinux_trap_done(slot)
    }
    while true {
      while clinux_trap_wait(listener.raw, offers.channel) { offers.take() }
      if clinux_trap_receive(listener.raw, slot, &call) == 0 {
        settle(call, isRepeated: false)
        clinux_trap_done(slot)
        continue
      }
      switch errno {
      // Its caller was killed.
      case ENOENT: continue
      // The machine has ended, and the supervisor will know by itself.
      case EPIPE: while true { pause() }
      case let number: throw Failure("wait for", "connections", errno: .init(rawValue: number))
      }
    }
  }

  private func count(_ counter: HandOffCounter?) {
    if let counter { counters[counter.rawValue] &+= 1 }
  }

  private func settle(_ call: clinux_held_call, isRepeated: Bool) {
    switch outcome(of: call, isRepeated: isRepeated) {
    case .goOn(let counter):
      count(counter)
      _ = clinux_trap_continue(listener.raw, call.id)
    case .answer(let number, let counter):
      count(counter)
      _ = clinux_trap_answer(listener.raw, call.id, number)
    case .done(let counter): count(counter)
    case .gone: break
    }
    if taken >= 0 { close(taken) }
    taken = -1
  }

  private func outcome(of call: clinux_held_call, isRepeated: Bool) -> Outcome {
    if call.is_accept { return outcomeOfAccept(call) }
    // What is no address to the kernel is its to refuse.
    guard (2...128).contains(call.size), let base = address.baseAddress else { return .goOn(nil) }
    let bytes = UnsafeRawBufferPointer(start: base, count: Int(call.size))
    guard clinux_caller_read(call.thread, call.address, base, bytes.count) == bytes.count else {
      return clinux_trap_is_held(listener.raw, call.id) ? .answer(EFAULT, nil) : .gone
    }
    let family = Int32(bytes[0]) | Int32(bytes[1]) << 8
    guard family == AF_UNSPEC || family == AF_INET || family == AF_INET6 else { return .goOn(nil) }

    let socket = clinux_caller_take(processes.raw, call.thread, call.descriptor)
    let error = errno
    taken = socket
    // All that was looked at so far was the caller's, if it is still there.
    guard clinux_trap_is_held(listener.raw, call.id) else { return .gone }
    guard socket >= 0 else { return .goOn(error == EBADF ? nil : .unknown) }
    var stream = clinux_stream()
    guard clinux_stream_look(socket, &stream) == 0 else { return .goOn(.unknown) }
    guard stream.is_tcp else { return .goOn(family == AF_UNSPEC ? nil : .notTCP) }

    let namespace = clinux_socket_namespace(socket)
    let isOurs = namespace == host && namespace != 0
    if isOurs {
      if let outcome = outcomeAnew(call, socket, stream, family, isRepeated) { return outcome }
    } else {
      guard family != AF_UNSPEC else { return .goOn(nil) }
      guard namespace == machine, namespace != 0 else { return .goOn(namespace == 0 ? .unknown : .otherNamespace) }
    }
    let outcome = handOver(call, socket, stream, bytes, isOurs: isOurs)
    // On a socket of the host's nothing goes on that was not decided on here.
    if isOurs, case .goOn(let counter) = outcome, counter != .handedOver { return .answer(EACCES, .refused) }
    return outcome
  }

  /// Most who accept are not those that anybody outside is led to.
  private func outcomeOfAccept(_ call: clinux_held_call) -> Outcome {
    guard !offers.isEmpty else { return .goOn(nil) }
    taken = clinux_caller_take(processes.raw, call.thread, call.descriptor)
    guard clinux_trap_is_held(listener.raw, call.id) else { return .gone }
    var stream = clinux_stream()
    guard taken >= 0, clinux_stream_look(taken, &stream) == 0, stream.is_tcp || stream.is_multipath,
      stream.state == 10,
      clinux_socket_namespace(taken) == machine
    else { return .goOn(nil) }
    return switch acceptance.outcome(of: call, taken, port: UInt16(truncatingIfNeeded: stream.port)) {
    case .goOn: .goOn(nil)
    case .answer(let number): .answer(number, nil)
    case .given(let isHosts): .done(isHosts ? .handedIn : nil)
    }
  }

  /// For a socket that was handed over before; nil when it may be handed over anew, because its connection has ended.
  private func outcomeAnew(
    _ call: clinux_held_call, _ socket: Int32, _ stream: clinux_stream, _ family: Int32, _ isRepeated: Bool
  ) -> Outcome? {
    if family == AF_UNSPEC { return .answer(EACCES, .refused) }
    guard stream.state == 7 else {
      // Made by a broker that came no further.
      if isRepeated, stream.state == 2, marks(of: call)?.isWaiting == false { return .answer(EINPROGRESS, nil) }
      // It asks what has become of it, or was interrupted while it waited: that it is there already, or on its way, the
      // kernel says, whatever address is named.
      return .goOn(nil)
    }
    let error = clinux_inet_error(socket)
    return error == 0 ? nil : .answer(error, nil)
  }

  /// How the caller's number is marked.
  private func marks(of call: clinux_held_call) -> (isWaiting: Bool, isSignalled: Bool, closesOnExec: Bool)? {
    let marks = clinux_caller_marks(processes.raw, call.thread, call.descriptor)
    guard let marks = Int32(exactly: marks), marks >= 0 else { return nil }
    return (marks & O_NONBLOCK == 0, marks & O_ASYNC != 0, marks & O_CLOEXEC != 0)
  }

  /// - Parameter bytes: the address as the kernel takes it.
  private func handOver(
    _ call: clinux_held_call, _ socket: Int32, _ stream: clinux_stream, _ bytes: UnsafeRawBufferPointer, isOurs: Bool
  ) -> Outcome {
    guard let peer = Peer(bytes), stream.family == peer.family, stream.state == 7 else { return .goOn(nil) }
    if !isOurs {
      if stream.is_bound { return .goOn(.bound) }
      if peer.isSpecial { return .goOn(.special) }
    }
    let interface: UInt32
    switch way(to: peer) {
    case .out(let found): interface = found
    case .not(let outcome): return outcome
    }
    guard let marks = marks(of: call) else { return .goOn(.unknown) }
    if !isOurs, marks.isSignalled || clinux_stream_is_special(socket) { return .goOn(.special) }

    switch clinux_caller_sharing(processes.raw, call.thread, call.descriptor) {
    case Int32(clinux_socket_alone.rawValue): break
    case Int32(clinux_socket_twice.rawValue): return .goOn(.shared)
    case Int32(clinux_socket_in_epoll.rawValue): return .goOn(.watched)
    case Int32(clinux_socket_crowd.rawValue): return .goOn(.crowded)
    default: return .goOn(.unknown)
    }

    let made = clinux_inet_socket(peer.address.count, false)
    guard made >= 0 else { return .goOn(.unknown) }
    // Before the caller is told: it is the caller who has the last descriptor of it, and ends the connection by closing it.
    defer { close(made) }
    clinux_stream_copy_options(socket, made, peer.family)
    guard clinux_stream_keep_to(made, interface) == 0 else { return .goOn(.unknown) }
    // Young kernels let only the host's root do that, where the guard over this group keeps the same and more.
    if clinux_stream_only_from(made, peer.host.bound, peer.host.count, UInt32(peer.port)) < 0, errno != EPERM {
      return .goOn(.unknown)
    }
    if clinux_inet_connect(made, peer.address.bound, peer.address.count, UInt32(peer.port)) < 0, errno != EINPROGRESS {
      return unreachable(errno)
    }
    if marks.isWaiting, clinux_stream_wait(made) < 0 { return .goOn(.unknown) }
    guard clinux_trap_replace(listener.raw, call.id, made, call.descriptor, marks.closesOnExec) >= 0 else {
      return errno == ENOENT ? .gone : .goOn(.unknown)
    }
    // The caller's own call waits for the connection that is under way, or is told of it.
    return marks.isWaiting ? .goOn(.handedOver) : .answer(EINPROGRESS, .handedOver)
  }

  private enum Way {
    /// By this interface of the host's.
    case out(UInt32)
    case not(Outcome)
  }

  /// What the machine's routes say, what is closed to machines, and then what the host's routes say.
  private func way(to peer: Peer) -> Way {
    routes.refresh()
    if let interface = routes.interface(to: peer.host) { return .out(interface) }
    if peer.isLoopback { return .not(.goOn(.inside)) }
    var route = clinux_route()
    if clinux_route_find(inside.raw, peer.host.bound, peer.host.count, &route) == 0 {
      guard !interface.isEmpty, route.is_unicast, route.has_gateway,
        clinux_route_is_named(inside.raw, route.interface, interface)
      else { return .not(.goOn(.inside)) }
    } else {
      // Where the machine itself knows no way its own kernel says so; unless no way is what it was given.
      guard interface.isEmpty, errno == ENETUNREACH else { return .not(.goOn(nil)) }
    }
    if ClosedAddresses.holds(Array(peer.host)) { return .not(.goOn(.closed)) }
    guard clinux_route_find(outside.raw, peer.host.bound, peer.host.count, &route) == 0 else {
      return .not(unreachable(errno))
    }
    // What belongs to the host itself is not one other host.
    guard route.is_unicast, route.interface != 0 else { return .not(.goOn(.closed)) }
    routes.remember(route.interface, to: peer.host)
    return .out(route.interface)
  }

  private func unreachable(_ number: Int32) -> Outcome {
    switch number {
    case ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, ECONNREFUSED: .answer(number, .unreachable)
    default: .goOn(.unknown)
    }
  }
}

extension UnsafeRawBufferPointer {
  /// For C, which is told the length beside it.
  fileprivate var bound: UnsafePointer<UInt8>? { baseAddress?.assumingMemoryBound(to: UInt8.self) }
}

/// Where a connection is to go: a view of the bytes that it was made of, valid as long as those.
private struct Peer {
  /// AF_INET or AF_INET6, of the socket that goes there.
  let family: Int32
  /// What that socket is told: 4 or 16 bytes.
  let address: UnsafeRawBufferPointer
  /// What it means: an address of IPv4 in the form of one of IPv6 is one of IPv4.
  let host: UnsafeRawBufferPointer
  let port: UInt16
  /// With a flow or an interface in it.
  let isSpecial: Bool

  /// - Parameter bytes: a `sockaddr`; nil for one that the kernel would not take.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= 16 else { return nil }
    family = Int32(bytes[0]) | Int32(bytes[1]) << 8
    port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    if family == AF_INET {
      address = .init(rebasing: bytes[4..<8])
      host = address
      isSpecial = false
      return
    }
    // The last part, the interface of a link-local address, may be missing.
    guard family == AF_INET6, bytes.count >= 24 else { return nil }
    address = .init(rebasing: bytes[8..<24])
    let isMapped = address.prefix(10).allSatisfy { $0 == 0 } && address[10] == 0xff && address[11] == 0xff
    host = isMapped ? .init(rebasing: address[12...]) : address
    isSpecial = bytes[4..<8].contains { $0 != 0 } || bytes.count >= 28 && bytes[24..<28].contains { $0 != 0 }
  }

  /// Every address of it is the machine's own, and so is the one that stands for none.
  var isLoopback: Bool {
    if host.count == 4 { return host[0] == 127 || host.allSatisfy { $0 == 0 } }
    return host.dropLast().allSatisfy { $0 == 0 } && (host.last ?? 0) <= 1
  }
}
