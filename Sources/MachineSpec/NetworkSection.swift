/// Where a machine's network comes from: `Mode=`.
public enum NetworkMode: String, SpecKeyword, Hashable {
  /// A tap device and a forwarder in user space; needs no privilege.
  case user
  /// Loopback only.
  case none
  /// No device at all: connections and listening sockets are handed off to the host.
  case sockets
  /// A veth pair; needs root.
  case veth
  /// The host's own network namespace: no isolation whatever.
  case hostInsecure = "host-insecure"
}

/// The program that carries packets in `Mode=user`: `Forwarder=`.
public enum ForwarderKind: String, SpecKeyword, Hashable {
  /// The best that the host has.
  case auto
  /// slirp4netns(1).
  case slirp4netns
  /// pasta(1).
  case pasta
}

/// `[Network]`: how the machine and the world reach each other.
public struct NetworkSection: Equatable, Sendable {
  /// `Mode=`: nil is not set.
  public var mode: NetworkMode?
  /// `Forwarder=`: default auto.
  public var forwarder: ForwarderKind = .auto
  /// `Port=`: published ports. Repeated keys add; no port of the host twice.
  public var ports: [PublishedPort] = []
  /// `HandOff=`: whether outgoing TCP connections are made by the host on the machine's behalf. Default no.
  public var handOff: Bool = false
  /// `HostPort=`: ports on the host's loopback that the machine may reach, words. Repeated keys add. Default none.
  public var hostPorts: [HostPort] = []
  /// `DNS=`: name servers for the machine, words. Repeated keys add. Default: those of the host.
  public var dns: [IPAddress] = []
  /// `MAC=`: the Ethernet address of the machine's interface; nil derives one from its UUID.
  public var mac: MACAddress?

  /// The defaults.
  public init() {}

  static let keys: [SpecKey] = [
    .optional("Mode", \.network.mode),
    .value("Forwarder", \.network.forwarder),
    .list("Port", \.network.ports),
    .flag("HandOff", \.network.handOff),
    .words("HostPort", \.network.hostPorts) { $0 == $1 },
    .words("DNS", \.network.dns) { $0 == $1 },
    .optional("MAC", \.network.mac),
  ]
}
