/// What a process does that carries a machine's traffic.
public enum CarrierRequest: Sendable, Equatable {
  /// Prepares the machine's tap device and becomes a program that carries packets between it and the host's sockets.
  case forward(ForwardRequest)
  /// Carries the bytes of connections from one side to the other.
  case relay(RelayRequest)
  /// Makes the machine's connections on the host.
  case broker(BrokerRequest)
  /// Gives the machine's network namespace its interface, and ends.
  case attach(AttachRequest)
}

/// A forwarder to become.
public struct ForwardRequest: Sendable, Equatable {
  /// The process that it ends with.
  public var supervisor: Int32
  /// A folder of the host's to put its own small root together on.
  public var workplace: String
  /// The tap device.
  public var tap: MachineInterface
  /// The program, as an absolute path on the host, and its arguments from its own name on.
  public var program: String
  /// The argument list, from the program's own name on.
  public var arguments: [String]

  /// A forwarder to become.
  public init(supervisor: Int32, workplace: String, tap: MachineInterface, program: String, arguments: [String]) {
    self.supervisor = supervisor
    self.workplace = workplace
    self.tap = tap
    self.program = program
    self.arguments = arguments
  }
}

/// An interface to give to a machine.
public struct AttachRequest: Sendable, Equatable {
  /// The process that it ends with.
  public var supervisor: Int32
  /// The end that stays on the host, of a pair to make; nil for an interface that is there already.
  public var hostEnd: HostEnd?
  /// The machine's.
  public var interface: MachineInterface

  /// An interface to give to a machine.
  public init(supervisor: Int32, hostEnd: HostEnd? = nil, interface: MachineInterface) {
    self.supervisor = supervisor
    self.hostEnd = hostEnd
    self.interface = interface
  }
}

/// The host's end of a pair of virtual Ethernet devices.
public struct HostEnd: Sendable, Equatable {
  /// Its name, of 15 bytes at most.
  public var name: String
  /// Its Ethernet address, six bytes.
  public var hardware: [UInt8]
  /// Its addresses: the machine's gateways.
  public var addresses: [InterfaceAddress]

  /// The host's end of a pair.
  public init(name: String, hardware: [UInt8], addresses: [InterfaceAddress]) {
    self.name = name
    self.hardware = hardware
    self.addresses = addresses
  }
}

/// An interface as it stands in the machine's network namespace.
public struct MachineInterface: Sendable, Equatable {
  /// Its name.
  public var name: String
  /// Its Ethernet address, six bytes; none for the loopback, which has none.
  public var hardware: [UInt8]
  /// The size of its largest packet, in bytes; 0 stays as it is.
  public var mtu: UInt32
  /// Its addresses, each of 4 or 16 bytes, with the bits of the network's part.
  public var addresses: [InterfaceAddress]
  /// The gateways of the default routes, each of 4 or 16 bytes.
  public var gateways: [[UInt8]]

  /// An interface.
  public init(
    name: String, hardware: [UInt8], mtu: UInt32, addresses: [InterfaceAddress], gateways: [[UInt8]]
  ) {
    self.name = name
    self.hardware = hardware
    self.mtu = mtu
    self.addresses = addresses
    self.gateways = gateways
  }
}

/// An address of an interface.
public struct InterfaceAddress: Sendable, Equatable {
  /// 4 or 16 bytes.
  public var bytes: [UInt8]
  /// How many bits are the network's.
  public var prefix: UInt8

  /// An address of an interface.
  public init(bytes: [UInt8], prefix: UInt8) {
    self.bytes = bytes
    self.prefix = prefix
  }
}

/// A relay to be.
public struct RelayRequest: Sendable, Equatable {
  /// The process that it ends with.
  public var supervisor: Int32
  /// A folder of the host's to leave the host's files from.
  public var workplace: String
  /// Empty for one that makes its connections in the machine's network namespace, and is told where it gets them from.
  /// Otherwise it makes them where it is started, and this is what it listens on in the machine's.
  public var doors: [RelayDoor]
  /// Whether it offers connections to a broker first, by the descriptors of `CarrierDescriptor` for that.
  public var isOffering: Bool

  /// A relay to be.
  public init(supervisor: Int32, workplace: String, doors: [RelayDoor] = [], isOffering: Bool = false) {
    self.supervisor = supervisor
    self.workplace = workplace
    self.doors = doors
    self.isOffering = isOffering
  }
}

/// A place in the machine's network namespace that leads to the host.
public struct RelayDoor: Sendable, Equatable {
  /// Whether it is UDP, or else TCP.
  public var datagrams: Bool
  /// The address to listen on, 4 bytes; the loopback interface gets it.
  public var address: [UInt8]
  /// The port to listen on.
  public var port: UInt16
  /// Where it leads, as seen from the host.
  public var targets: [RelayTarget]

  /// A way to the host.
  public init(datagrams: Bool, address: [UInt8], port: UInt16, targets: [RelayTarget]) {
    self.datagrams = datagrams
    self.address = address
    self.port = port
    self.targets = targets
  }
}

/// What a relay counts, in the order of its counters: each is a number of eight bytes.
public enum RelayCounter: Int, Sendable, CaseIterable {
  /// Connections that were taken.
  case connections
  /// Connections that there are.
  case open
  /// Bytes carried to where the relay connects.
  case bytesIn
  /// Bytes carried back.
  case bytesOut
  /// Connections that found nobody at the other end.
  case refused
  /// Datagrams carried, in both directions.
  case datagrams
  /// Connections that were handed over to whoever accepted them: nothing of theirs is carried.
  case handedOver
}

/// What a relay is told while it runs; a listening or bound socket comes along with `publish`.
public enum RelayCommand: Sendable, Equatable {
  /// Takes connections or datagrams from the socket that comes along, and carries them to one of these in turn.
  ///
  /// `isOffered`: the sockets that it accepts are fit to be handed over.
  case publish(id: UInt32, datagrams: Bool, isOffered: Bool, targets: [RelayTarget])
  /// Takes no more of them, and ends those that there are.
  case withdraw(id: UInt32)
}

/// Where a relay connects to.
public struct RelayTarget: Sendable, Hashable {
  /// 4 or 16 bytes.
  public var address: [UInt8]
  /// The port.
  public var port: UInt16

  /// A place to connect to.
  public init(address: [UInt8], port: UInt16) {
    self.address = address
    self.port = port
  }
}

/// The descriptors that a carrier finds open besides those of `StageDescriptor`.
public enum CarrierDescriptor {
  /// The machine's network namespace.
  public static let network: Int32 = 6
  /// A forwarder: a pipe whose other end is open as long as the supervisor lives. A relay: its counters, a file in
  /// memory, and so a broker.
  public static let extra: Int32 = 7
  /// A broker: where the calls are told that it decides on.
  public static let listener: Int32 = 8
  /// A relay that offers connections to a broker: the memory that it shares with it.
  public static let words: Int32 = 8
  /// A broker, and a relay that offers connections to it: their ends of what the offers go through.
  public static let offers: Int32 = 9
}
