/// A connection from outside that a relay offers to the broker, before it connects to the machine itself: whoever in the
/// machine accepts the relay's connection is to get the host's socket in its place.
public struct Offer: Sendable, Equatable {
  /// So many at a time. Two messages of each find room in a queue of the usual size, so that none of them ever waits.
  public static let most = 128

  /// Its place among the words in `HandOffMemory`.
  public var slot: UInt16
  /// What that word was set to when it was made.
  public var word: UInt64
  /// Where the relay's connection comes from, as who accepts it sees it: an address of 4 or 16 bytes, and a port.
  public var origin: RelayTarget
  /// The port in the machine that it goes to.
  public var port: UInt16
  /// Who is at the other end of the host's socket, as that socket has it: an address of 4 or 16 bytes, and a port.
  public var client: RelayTarget
  /// The interface that a link-local address of the client's is at; else 0.
  public var scope: UInt32

  /// An offer.
  public init(
    slot: UInt16, word: UInt64, origin: RelayTarget, port: UInt16, client: RelayTarget, scope: UInt32
  ) {
    self.slot = slot
    self.word = word
    self.origin = origin
    self.port = port
    self.client = client
    self.scope = scope
  }
}

/// What a relay tells a broker. The host's socket comes along with an offer.
public enum OfferMessage: Sendable, Equatable {
  /// Somebody may have it.
  case make(Offer)
  /// Nobody took the one at this place, and the relay carries it: the broker is to let go of it.
  case withdraw(slot: UInt16)
  /// A relay has begun: what another one offered is void.
  case forgetAll
}

/// What has become of an offer: a number that relay and broker change by comparing and exchanging, so that exactly one
/// of them has the connection. The lower two bits are its state, the rest counts how often the place was used.
public struct OfferWord: Sendable, Equatable {
  /// What an offer can have become.
  public enum State: UInt64, Sendable {
    /// Nobody's: the place is free, or the relay took it back.
    case free
    /// Whoever accepts may have it.
    case offered
    /// The broker gave it away.
    case taken
    /// The broker could not give it away after all: the relay may go on.
    case returned
  }

  /// As it is in memory.
  public var value: UInt64

  /// A word as it was read.
  public init(_ value: UInt64) {
    self.value = value
  }

  /// What has become of it.
  public var state: State { State(rawValue: value & 3) ?? .free }

  /// The same offer, in another state.
  public func with(_ state: State) -> OfferWord { OfferWord(value & ~3 | state.rawValue) }

  /// The next offer at the same place.
  public var next: OfferWord { OfferWord((value & ~3 &+ 4) | State.offered.rawValue) }
}
