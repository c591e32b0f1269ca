import CLinux
import Glibc
import Linux
import StageProtocol

/// Decides on a call that accepts a connection: what a relay connects with stands for a socket of the host's, and whoever
/// accepts it is given that one, with the client itself at its other end and nobody between them.
///
/// The machine's own socket listens as before, for whoever comes from inside. What is not accepted by way of this, such
/// as by a call that waited already or one of i386, is carried by the relay, which finds out by itself.
struct BrokerAcceptance {
  enum Outcome {
    /// The kernel goes on with the call.
    case goOn
    case answer(Int32)
    /// The caller has a connection: the host's, or one of the machine's own.
    case given(isHosts: Bool)
  }

  let listener: Descriptor
  let offers: BrokerOffers

  /// - Parameters:
  ///   - socket: what the caller accepts from, which listens in the machine's network namespace.
  ///   - port: where.
  func outcome(of call: clinux_held_call, _ socket: Int32, port: UInt16) -> Outcome {
    let allowed = UInt32(SOCK_CLOEXEC.rawValue) | UInt32(SOCK_NONBLOCK.rawValue)
    guard call.flags & ~allowed == 0, offers.lead(to: port) else { return .goOn }
    // What the kernel would complain of is its to refuse, before there is a connection that would be lost by it.
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
    return error == 0 ? .given(isHosts: offer != nil) : .answer(error)
  }

  /// - Parameters:
  ///   - own: the connection that the offer stands for.
  ///   - peer: who is at its other end: the relay.
  /// - Returns: nil when it is not to be had, or would not be what the caller listens for.
  private func claim(_ one: BrokerOffers.Held, for own: Descriptor, from peer: clinux_inet_peer) -> BrokerOffers.Held? {
    let client = clinux_inet_peer(one.offer)
    if family(of: own) == AF_INET {
      guard client.is_v6 == 0 || client.is_mapped != 0 && clinux_stream_as_v4(one.socket.raw) == 0 else { return nil }
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
      guard clinux_trap_is_held(listener.raw, call.id),
        clinux_caller_write(call.thread, call.address, name, fitting) == fitting,
        clinux_caller_write(call.thread, call.size_address, &length, 4) == 4
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
