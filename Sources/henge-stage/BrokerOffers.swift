import CLinux
import Glibc
import Linux
import StageProtocol

/// What a relay has offered to this broker: sockets of the host's, by the connections that stand for them inside.
final class BrokerOffers {
  struct Held {
    let offer: Offer
    /// The host's, with the client at its other end.
    let socket: Descriptor

    fileprivate var word: OfferWord { OfferWord(offer.word) }
  }

  /// Can be read from when there is something to take; -1 when there never will be.
  private(set) var channel: Int32
  private let descriptor: Descriptor
  private let words: UnsafeMutablePointer<UInt64>
  private var held: [UInt16: Held] = [:]
  private var slots: [RelayTarget: UInt16] = [:]

  /// - Parameter words: of `HandOffMemory`.
  init(_ descriptor: Descriptor, words: UnsafeMutablePointer<UInt64>) throws(Failure) {
    self.descriptor = descriptor
    self.words = words
    channel = descriptor.raw
    try check(clinux_set_nonblocking(descriptor.raw, true), "make a channel")
  }

  var isEmpty: Bool { held.isEmpty }

  /// Whether any of them leads to this port in the machine.
  func lead(to port: UInt16) -> Bool { held.values.contains { $0.offer.port == port } }

  /// The one that such a connection stands for.
  func at(_ origin: RelayTarget) -> Held? { slots[origin].flatMap { held[$0] } }

  /// Reads what the relay has said. It does not wait.
  func take() {
    while true {
      errno = 0
      guard let (bytes, socket) = (try? descriptor.receive(limit: 256)) ?? nil else {
        // Closed for good by the supervisor, or nothing for now.
        if errno == 0 { channel = -1 }
        return
      }
      switch try? OfferMessage(decoding: bytes) {
      case .make(let offer)?:
        guard Int(offer.slot) < Offer.most, let socket else { continue }
        forget(offer.slot)
        held[offer.slot] = Held(offer: offer, socket: socket)
        slots[offer.origin] = offer.slot
      case .withdraw(let slot)?: forget(slot)
      case .forgetAll?:
        held = [:]
        slots = [:]
      case nil: continue
      }
    }
  }

  /// Makes an offer the broker's. The relay has it when this fails, or another relay came.
  func claim(_ one: Held) -> Bool { change(one, .offered, to: .taken) }

  /// Gives one back that was claimed: the relay goes on with it.
  func giveBack(_ one: Held) { _ = change(one, .taken, to: .returned) }

  private func change(_ one: Held, _ old: OfferWord.State, to new: OfferWord.State) -> Bool {
    clinux_change(words + Int(one.offer.slot), one.word.with(old).value, one.word.with(new).value)
  }

  func forget(_ one: Held) { forget(one.offer.slot) }

  private func forget(_ slot: UInt16) {
    guard let old = held.removeValue(forKey: slot) else { return }
    if slots[old.offer.origin] == slot { slots[old.offer.origin] = nil }
  }
}
