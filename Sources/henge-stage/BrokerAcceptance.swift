import CLinux
import Glibc
import Linux
import StageProtocol

/// Decides on a call that accepts a connection: what a relay connects with stands for a socket of the host's, and whoever
/// accepts it is given that one, with the client itself at its other end and nobody between them.
///
/// The machine's own socket listens as before, for whoever comes from inside. What is not accepted by way of this, such
/// as by a call that waited already or one of i386, is carried by the relay, which finds out by itself.
final class BrokerAcceptance {
  enum Outcome {
    /// The kernel goes on with the call.
    case goOn
    case answer(Int32)
    /// The caller has a connection: the host's, or one of the machine's own.
    case given(isHosts: Bool)
  }

  private let listener: Descriptor
  private let processes: Descriptor
  private let offers: BrokerOffers
  /// Whoever listened there had no room for a descriptor, a moment ago: the kernel leaves its connections in the queue.
  private var crowded: (port: UInt16, second: Int)?

  /// - Parameters:
  ///   - listener: where calls are told.
  ///   - processes: a view of `/proc`.
  init(listener: Descriptor, processes: Descriptor, offers: BrokerOffers) {
    self.listener = listener
    self.processes = processes
    self.offers = offers
  }

  /// - Parameters:
  ///   - socket: what the caller accepts from, which listens in the machine's network namespace.
  ///   - port: where.
  func outcome(of call: clinux_held_call, _ socket: Int32, port: UInt16) -> Outcome {
    let allowed = UInt32(SOCK_CLOEXEC.rawValue) | UInt32(SOCK_NONBLOCK.rawValue)
    guard call.flags & ~allowed == 0, offers.lead(to: port) else { return .goOn }
    if let crowded, crowded.port == port, now() - crowded.second <= 1 { return .goOn }
    // What the kernel would complain of is its to refuse, before there is a connection that would be lost by it: one of
    // the machine's own, too, which nobody can offer anew.
    guard clinux_caller_has_room(processes.raw, call.thread) else { return .goOn }
    var room: Int32 = 0
    if call.address != 0 {
      guard clinux_caller_read(call.thread, call.size_address, &room, 4) == 4, room >= 0 else { return .goOn }
    }
    let waits = call.flags & UInt32(SOCK_NONBLOCK.rawValue) == 0
    var peer = clinux_inet_peer()
    let number = clinux_inet_accept_now(socket, waits, &peer)
    guard number >= 0 else { return .goOn }
    let own = Descriptor(adopting: number)
    // That it closes tells the relay to look what has become of the offer: so that is settled before.
    defer { withExtendedLifetime(own) {} }
    let offer = offers.at(peer.target).flatMap { claim($0, for: own, from: peer) }
    if let offer, family(of: own) == AF_INET, offer.offer.client.address.count == 16,
      clinux_stream_as_v4(offer.socket.raw) < 0
    {
      // As when its client has said all that it will. The relay connects once more, and carries it.
      clinux_inet_reset_when_closed(own.raw)
      offers.giveBack(offer)
      offers.forget(offer)
      return .goOn
    }
    if let offer {
      clinux_stream_copy_options(own.raw, offer.socket.raw, family(of: own))
      if waits { _ = clinux_stream_wait(offer.socket.raw) }
      // Its buffers may hold what the relay had sent ahead, and nobody is to wait for that to be read.
      clinux_inet_reset_when_closed(own.raw)
    }
    let given = offer?.socket ?? own
    let error = give(given, offer.map { clinux_inet_peer($0.offer) } ?? peer, family(of: own), to: call, room)
    if let offer {
      if error != 0 { offers.giveBack(offer) }
      offers.forget(offer)
    }
    if error != 0, error != EFAULT { crowded = (port, now()) }
    return error == 0 ? .given(isHosts: offer != nil) : .answer(error)
  }

  private func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
    return time.tv_sec
  }

  /// - Parameters:
  ///   - own: the connection that the offer stands for.
  ///   - peer: who is at its other end: the relay.
  /// - Returns: nil when it is not to be had, or would not be what the caller listens for.
  private func claim(_ one: BrokerOffers.Held, for own: Descriptor, from peer: clinux_inet_peer) -> BrokerOffers.Held? {
    let client = clinux_inet_peer(one.offer)
    // Without it the machine could have it connect anywhere.
    guard clinux_stream_has_filter(one.socket.raw) else { return nil }
    if family(of: own) == AF_INET {
      guard client.is_v6 == 0 || client.is_mapped != 0 else { return nil }
    } else {
      guard client.is_v6 != 0, client.is_mapped == peer.is_mapped else { return nil }
    }
    return offers.claim(one) ? one : nil
  }

  private func family(of socket: Descriptor) -> Int32 {
    var stream = clinux_stream()
    return clinux_stream_look(socket.raw, &stream) == 0 ? stream.family : 0
  }

  /// - Returns: an error number for the caller; 0 when it has the socket.
  private func give(
    _ socket: Descriptor, _ peer: clinux_inet_peer, _ family: Int32, to call: clinux_held_call, _ room: Int32
  ) -> Int32 {
    if call.address != 0 {
      var peer = peer
      var name = [UInt8](repeating: 0, count: 28)
      let size = clinux_inet_written(&peer, family == AF_INET, &name)
      var length = Int32(size)
      let fitting = min(size, Int(room))
      let number = clinux_caller_memory(processes.raw, call.thread)
      guard number >= 0 else { return EFAULT }
      let memory = Descriptor(adopting: number)
      guard clinux_trap_is_held(listener.raw, call.id),
        pwrite(memory.raw, name, fitting, off_t(truncatingIfNeeded: call.address)) == fitting,
        pwrite(memory.raw, &length, 4, off_t(truncatingIfNeeded: call.size_address)) == 4
      else { return EFAULT }
    }
    let closesOnExec = call.flags & UInt32(SOCK_CLOEXEC.rawValue) != 0
    return clinux_trap_add(listener.raw, call.id, socket.raw, closesOnExec) >= 0 ? 0 : errno
  }
}

extension clinux_inet_peer {
  fileprivate init(_ offer: Offer) {
    self.init()
    let bytes = offer.client.address
    withUnsafeMutableBytes(of: &address) { $0.copyBytes(from: bytes) }
    scope = offer.scope
    port = offer.client.port
    is_v6 = bytes.count == 16 ? 1 : 0
    is_mapped = bytes.count == 16 && isMapped(bytes) ? 1 : 0
  }

  /// An address of IPv4 in the form of one of IPv6 is one of IPv4.
  var target: RelayTarget {
    let all = withUnsafeBytes(of: address) { Array($0) }
    let bytes = is_v6 == 0 ? Array(all.prefix(4)) : is_mapped != 0 ? Array(all.suffix(4)) : all
    return RelayTarget(address: bytes, port: port)
  }

  /// Whether it stands for whoever is on the same system.
  var isLoopback: Bool {
    let bytes = target.address
    return bytes.count == 4 ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
  }
}

private func isMapped(_ bytes: [UInt8]) -> Bool {
  bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
}
