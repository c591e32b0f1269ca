/// A broker to be: it makes a machine's outgoing TCP connections on the host.
public struct BrokerRequest: Sendable, Equatable {
  /// The process that it ends with.
  public var supervisor: Int32
  /// A folder of the host's to leave the host's files from.
  public var workplace: String
  /// The machine's interface that leads outside: only what would leave by it is handed off. Empty where there is none:
  /// whatever the machine has no route to is handed off then.
  public var interface: String
  /// Whether it only lets every connection go on, and hands none over: for where it could not be set up to do more.
  public var isPassing: Bool

  /// A broker to be.
  public init(supervisor: Int32, workplace: String, interface: String, isPassing: Bool = false) {
    self.supervisor = supervisor
    self.workplace = workplace
    self.interface = interface
    self.isPassing = isPassing
  }
}

/// What became of the calls that a broker saw, in the order of its counters: each is a number of eight bytes.
public enum HandOffCounter: Int, Sendable, CaseIterable {
  /// Made by the host.
  case handedOver
  /// Answered with the error that the host has for the address: there is no way.
  case unreachable
  /// Not made: the socket is one that was handed over, and asked to connect again.
  case refused
  /// Left to packets: it is not for the outside.
  case inside
  /// Not TCP.
  case notTCP
  /// A socket of another network namespace, such as a container's in the machine.
  case otherNamespace
  /// Bound to an address or a port of the machine's.
  case bound
  /// Set up in a way that means something in the machine only: a mark, a filter, an interface.
  case special
  /// Known by another number as well.
  case shared
  /// In an epoll set already, which goes by the open file.
  case watched
  /// The process has too many descriptors to look whether it is one of those.
  case crowded
  /// The host's own address, or one that is closed to machines.
  case closed
  /// What has to be known could not be found out.
  case unknown
  /// From outside, to a published port: whoever accepted it has the host's own socket.
  case handedIn

  /// Those that say why a connection was left to packets.
  public static let fallenBack: [HandOffCounter] = [
    .inside, .notTCP, .otherNamespace, .bound, .special, .shared, .watched, .crowded, .closed, .unknown,
  ]
}

/// The memory that a broker shares with its supervisor, and with the broker that comes after it.
public enum HandOffMemory {
  /// How many brokers got as far as deciding: eight bytes.
  public static let begun = 504
  /// Where the call is that it has in hand, after the counters.
  public static let slot = 512
  /// How much room that has.
  public static let slotSize = 512
  /// Where the words are that say what has become of each offer of the relay's (`OfferWord`), eight bytes each.
  public static let offers = 1024
  /// Of all of it.
  public static let size = offers + 8 * Offer.most
}
