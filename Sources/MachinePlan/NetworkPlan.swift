import MachineSpec
import StageProtocol

/// How a machine gets on the net, decided.
public struct NetworkPlan: Sendable, Equatable {
  /// Where its network comes from.
  public var mode = NetworkMode.none
  /// The program that carries packets, for `Mode=user`.
  public var forwarder: PlannedForwarder?
  /// The interface, with its addresses.
  public var interface: MachineInterface?
  /// The name server that the forwarder answers for.
  public var nameServer: IPAddress?
  /// Name servers that a relay asks for the machine.
  public var relayedServers: [RelayedServer] = []
  /// What the interface is the one end of, for `Mode=veth`.
  public var veth: VethPlan?
  /// Ports of the host that lead into the machine.
  public var ports: [PublishedPort] = []
  /// Ports on the host's loopback that the machine may reach.
  public var hostPorts: [HostPort] = []

  /// Whether the host makes the machine's outgoing TCP connections.
  public var handOff = false

  /// The ports whose sockets go to the machine's own systemd.
  public var unitPorts: [PublishedPort] { ports.filter { $0.socketUnit != nil } }
  /// Each is one more descriptor of process 1's at its start.
  static let mostUnitPorts = 16

  /// A loopback and nothing else.
  public init() {}
}

/// A name server of the host's that the machine asks by an address of its own.
public struct RelayedServer: Sendable, Equatable {
  /// Where the machine finds it.
  public var address: IPAddress
  /// Where the host does.
  public var server: IPAddress
}

/// A forwarder, and why it is this one.
public struct PlannedForwarder: Sendable, Equatable {
  /// Which one.
  public var kind: ForwarderKind
  /// Where it is on the host.
  public var path: String
  /// Why it was taken, for the operator; empty where the spec names it.
  public var reason: String
}

/// A forwarder that the host has.
public struct InstalledForwarder: Sendable, Equatable {
  /// Which one.
  public var kind: ForwarderKind
  /// Where it is.
  public var path: String

  /// A forwarder that the host has.
  public init(kind: ForwarderKind, path: String) {
    self.kind = kind
    self.path = path
  }
}

/// What of the host matters to a machine's network.
public struct NetworkFacts: Sendable, Equatable {
  /// The forwarders that are installed.
  public var forwarders: [InstalledForwarder] = []
  /// Whether there is a `/dev/net/tun`.
  public var hasTun = true
  /// Whether whoever starts machines may open it.
  public var opensTun = true
  /// Whether the host has a default route of IPv6.
  public var routesIPv6 = true
  /// Where nft(8) is; nil where it is not installed.
  public var nft: String?
  /// Whether this process may change the network that it is in: interfaces, routes, packet filter.
  public var ownsNetwork = true
  /// Whether the host forwards packets of IPv4.
  public var forwards4 = true
  /// Whether the host forwards packets of IPv6.
  public var forwards6 = true
  /// The host's routes.
  public var routes: [HostRoute] = []
  /// The host's `/etc/resolv.conf`; nothing where there is none.
  public var resolvConf: [UInt8] = []

  /// The name servers that the host itself asks, in its order; without those at link-local addresses, which mean
  /// nothing without an interface.
  public var nameServers: [IPAddress] {
    Self.nameServers(in: resolvConf).filter { !$0.isLinkLocal }
  }

  /// The name servers of a `resolv.conf(5)`, those at link-local addresses without their interface.
  public static func nameServers(in resolvConf: [UInt8]) -> [IPAddress] {
    String(decoding: resolvConf, as: UTF8.self).split(separator: "\n").compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      guard words.count > 1, words[0] == "nameserver" else { return nil }
      return try? IPAddress(String(words[1].prefix { $0 != "%" }))
    }
  }

  /// A host without any forwarder.
  public init() {}
}

extension IPAddress {
  /// Whether it means nothing without an interface: fe80::/10.
  var isLinkLocal: Bool { if case .v6(let number) = self { number >> 118 == 0xfe80 >> 6 } else { false } }
}

/// A route of the host's.
public struct HostRoute: Sendable, Equatable {
  /// Where it leads.
  public var address: IPAddress
  /// How many bits of that count.
  public var bits: UInt8
  /// The interface that it leaves by.
  public var interface: String

  /// A route of the host's.
  public init(address: IPAddress, bits: UInt8, interface: String) {
    self.address = address
    self.bits = bits
    self.interface = interface
  }
}

/// The addresses behind a forwarder. Each machine is alone behind its own, so all have the same; they are those that
/// slirp4netns answers for.
public enum UserNetwork {
  /// The name of the interface.
  public static let interface = "eth0"
  /// The largest packet: both forwarders are several times faster by it.
  public static let mtu: UInt32 = 65520
  /// The machine's address.
  public static let address4 = IPAddress.v4(0x0a00_0264)
  /// Where its packets go.
  public static let gateway4 = IPAddress.v4(0x0a00_0202)
  /// The name server; the forwarder passes its questions on to the host's.
  public static let nameServer = IPAddress.v4(0x0a00_0203)
  /// Those that a relay shows the host's name servers at: as many as resolvers of the C library's ask.
  public static let nameServers = [nameServer, .v4(0x0a00_0205), .v4(0x0a00_0206)]
  /// The address that `HostPort=` shows the host's ports at.
  public static let host4 = IPAddress.v4(0x0a00_0204)
  /// The machine's address.
  public static let address6 = IPAddress.v6(0xfd00 << 112 | 0x100)
  /// Where its packets go.
  public static let gateway6 = IPAddress.v6(0xfd00 << 112 | 2)
}
