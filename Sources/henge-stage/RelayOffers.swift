import CLinux
import Glibc
import Linux
import StageProtocol
import Synchronization

/// Connections that a relay has offered to the broker: for each there is a word in memory that both change by comparing
/// and exchanging, so that exactly one of them has it in the end, and neither waits for the other.
///
/// All of a relay's threads offer by it: the places are behind a lock, and a word is changed by exchanges only.
final class RelayOffers: @unchecked Sendable {
  struct Made {
    fileprivate let slot: UInt16
    fileprivate let word: OfferWord
  }

  enum Outcome {
    /// Nobody took it.
    case ours
    /// Whoever accepted has the client's socket.
    case taken
    /// The same, had that one had room for it.
    case returned
    /// The broker has it in hand. That the other end of what stands for it closes says that it no longer has.
    case undecided
  }

  private struct Places {
    var free: [UInt16]
    /// Those that the broker is still to be told of: nobody has them, but it holds their sockets.
    var owed: [UInt16] = []
  }

  private let channel: Descriptor
  private let words: UnsafeMutablePointer<UInt64>
  private let places = Mutex(Places(free: (0..<UInt16(Offer.most)).reversed()))

  /// - Parameters:
  ///   - memory: `HandOffMemory`, which a relay before this one may have used.
  ///   - channel: to the broker.
  init(memory: Descriptor, channel: Descriptor) throws(Failure) {
    guard let shared = clinux_map_shared(memory.raw, HandOffMemory.size) else {
      throw Failure("map", "the offers", errno: .init(rawValue: errno))
    }
    self.channel = channel
    words = (shared + HandOffMemory.offers).bindMemory(to: UInt64.self, capacity: Offer.most)
    try check(clinux_set_nonblocking(channel.raw, true), "make a channel")
    for slot in 0..<UInt16(Offer.most) {
      let old = read(slot)
      if old.state != .free { _ = change(slot, old, to: old.with(.free)) }
    }
    try? channel.send(OfferMessage.forgetAll.encoded)
  }

  private func read(_ slot: UInt16) -> OfferWord { OfferWord(clinux_load(words + Int(slot))) }

  private func change(_ slot: UInt16, _ old: OfferWord, to new: OfferWord) -> Bool {
    clinux_change(words + Int(slot), old.value, new.value)
  }

  /// - Parameters:
  ///   - client: the host's socket.
  ///   - peer: who is at the other end of it.
  ///   - socket: what is going to connect to the machine; it is bound here, to be known before it does.
  /// - Returns: nil when it cannot be offered, as when there are too many at a time.
  func make(_ client: Descriptor, from peer: clinux_inet_peer, by socket: Descriptor, to target: RelayTarget) -> Made? {
    let port = clinux_inet_take_port(socket.raw, target.address, target.address.count)
    guard port > 0, let slot = takePlace() else { return nil }
    let old = read(slot)
    let word = old.next
    guard change(slot, old, to: word) else {
      giveBack(slot)
      return nil
    }
    let address = withUnsafeBytes(of: peer.address) { Array($0.prefix(peer.is_v6 != 0 ? 16 : 4)) }
    let offer = Offer(
      slot: slot, word: word.value, origin: RelayTarget(address: target.address, port: UInt16(port)),
      port: target.port, client: RelayTarget(address: address, port: peer.port), scope: peer.scope)
    do throws(Failure) {
      try channel.send(OfferMessage.make(offer).encoded, passing: client)
    } catch {
      _ = change(slot, word, to: word.with(.free))
      giveBack(slot)
      return nil
    }
    return Made(slot: slot, word: word)
  }

  /// Ends an offer, unless the broker has it in hand.
  ///
  /// - Parameter isOver: that can no longer be.
  func settle(_ offer: Made, isOver: Bool) -> Outcome {
    if change(offer.slot, offer.word, to: offer.word.with(.free)) {
      // Until the broker knows it holds the client's socket, which is closed only when both have done so.
      withdraw(offer.slot)
      return .ours
    }
    let found = read(offer.slot)
    if found.state == .taken, !isOver { return .undecided }
    _ = change(offer.slot, found, to: found.with(.free))
    giveBack(offer.slot)
    return found.state == .returned ? .returned : .taken
  }

  private func withdraw(_ slot: UInt16) {
    let isTold = (try? channel.send(OfferMessage.withdraw(slot: slot).encoded)) != nil
    places.withLock { if isTold { $0.free.append(slot) } else { $0.owed.append(slot) } }
  }

  private func takePlace() -> UInt16? {
    let owed = places.withLock { places in
      defer { places.owed = [] }
      return places.owed
    }
    for slot in owed { withdraw(slot) }
    return places.withLock { $0.free.popLast() }
  }

  private func giveBack(_ slot: UInt16) { places.withLock { $0.free.append(slot) } }
}

/// Whether there is any use in offering what comes by a publication: whoever waits in accept, or meets no trap, is served
/// sooner without, and each offer that nobody takes has a port of the machine's to itself for a while.
final class RelayTakers: Sendable {
  private static let patience = 8
  private static let every = 64
  private let misses = Atomic<Int>(0)

  /// After so many in a row that nobody took, one of many is offered still.
  var isWorthwhile: Bool {
    guard misses.load(ordering: .relaxed) >= Self.patience else { return true }
    return misses.add(1, ordering: .relaxed).newValue % Self.every == 0
  }

  func note(isTaken: Bool) {
    if isTaken { misses.store(0, ordering: .relaxed) } else { misses.add(1, ordering: .relaxed) }
  }
}
