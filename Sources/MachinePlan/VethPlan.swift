import MachineSpec
import StageProtocol

/// A pair of virtual Ethernet devices, and what the host's packet filter does about it.
public struct VethPlan: Sendable, Equatable {
  /// The end that stays on the host.
  public var hostEnd: HostEnd
  /// nft(8), on the host.
  public var program: String
  /// The machine's table in the host's packet filter.
  public var filter: FilterTable
  /// Whether IPv6 is forwarded as well.
  public var forwardsIPv6: Bool
}

/// A table of nftables' that is about one machine and nothing else.
public struct FilterTable: Sendable, Equatable {
  /// Its name, in the family `inet`; that of the host's end of the pair as well.
  public var name: String
  /// The machine's addresses.
  public var addresses: [IPAddress]

  /// What nft(8) reads: the table as a whole, in place of one of this name that is left over.
  ///
  /// Everything that the machine sends passes `from`, before anybody else's rule can lead it elsewhere: what is for the
  /// host itself, by whatever address, and what is closed to machines ends there. Nobody opens a connection to the
  /// machine by its address but the host.
  public var script: String {
    let closed = ClosedAddresses.prefixes.compactMap { prefix in IPAddress(prefix.bytes).map { ($0, prefix.bits) } }
    func words(_ size: Int) -> String {
      closed.filter { $0.0.bytes.count == size }.map { "\($0.0)/\($0.1)" }.joined(separator: ", ")
    }
    let four = addresses.filter { $0.bytes.count == 4 }.map(\.description)
    let six = addresses.filter { $0.bytes.count == 16 }.map(\.description)
    let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
    return """
      add table inet \(name)
      delete table inet \(name)
      table inet \(name) {
        chain from {
          type filter hook prerouting priority mangle; policy accept;
          iifname != "\(name)" accept
          ip saddr != { \(four.joined(separator: ", ")) } drop
          ip6 saddr != { \((six + ["fe80::/10"]).joined(separator: ", ")) } drop
          ct state established,related accept
          \(neighbours)
          fib daddr type != unicast drop
          ip daddr { \(words(4)) } drop
          ip6 daddr { \(words(16)) } drop
        }
        chain host {
          type filter hook input priority filter; policy accept;
          iifname != "\(name)" accept
          ct state established,related accept
          \(neighbours)
          drop
        }
        chain to {
          type filter hook forward priority filter; policy accept;
          oifname != "\(name)" accept
          ct state established,related accept
          drop
        }
        chain leave {
          type nat hook postrouting priority srcnat; policy accept;
      \((four.map { "    ip saddr \($0)" } + six.map { "    ip6 saddr \($0)" })
        .map { "\($0) oifname != \"\(name)\" masquerade\n" }.joined())  }
      }

      """
  }
}

/// The networks that pairs are numbered from. The ids of a machine are its alone on this host, and so is the number of
/// the first of them in units of 65536: it chooses the machine's small network, for as long as there is the machine.
enum VethNetwork {
  /// Each has room for 65536 networks of four addresses; the first is taken that nothing else of the host's is in.
  static let pools4: [UInt32] = [0x0ad8_0000, 0xac18_0000, 0x0ab4_0000]
  static let bits4: UInt8 = 14
  /// fd48:656e:6765::/48 and the next one.
  static let pools6: [UInt128] = [0xfd48_656e_6765 << 80, 0xfd48_656e_6766 << 80]
  static let bits6: UInt8 = 48

  /// What the names of the hosts' ends begin with.
  static let prefix = "he-"
}

extension Planner {
  /// `Mode=veth`.
  mutating func planVeth(_ plan: inout NetworkPlan) throws(PlanError) {
    guard host.network.ownsNetwork else {
      throw PlanError(
        "Mode=veth takes root over the network that the machine is to be connected with, which an ordinary user's "
          + "namespace does not have", advice: "start it as root, or set Mode=user", isHostsFault: true)
    }
    guard let program = host.network.nft else {
      throw PlanError(
        "Mode=veth needs nft, which is not installed", advice: "apt-get install nftables", isHostsFault: true)
    }
    let number = machine.rootID >> 16
    guard let pool4 = VethNetwork.pools4.first(where: { isFree(.v4($0), VethNetwork.bits4) }),
      let pool6 = VethNetwork.pools6.first(where: { isFree(.v6($0), VethNetwork.bits6) })
    else {
      let pools = VethNetwork.pools4.map { "\(IPAddress.v4($0))/\(VethNetwork.bits4)" }.joined(separator: ", ")
      throw PlanError(
        "Mode=veth takes its addresses from \(pools), and the host has routes into each of them",
        advice: "set Mode=user", isHostsFault: true)
    }
    let net4 = pool4 | (number & 0xffff) << 2
    let net6 = pool6 | UInt128(number & 0xffff) << 64
    let name = vethName(number)
    var hardware = hardwareAddress
    hardware[0] = hardware[0] & 0xfe ^ 4 | 2
    let gateways: [IPAddress] = [.v4(net4 | 1), .v6(net6 | 1)]
    let addresses: [IPAddress] = [.v4(net4 | 2), .v6(net6 | 2)]
    func interfaceAddress(_ address: IPAddress) -> InterfaceAddress {
      InterfaceAddress(bytes: address.bytes, prefix: address.bytes.count == 4 ? 30 : 64)
    }
    plan.veth = VethPlan(
      hostEnd: HostEnd(name: name, hardware: hardware, addresses: gateways.map(interfaceAddress)), program: program,
      filter: FilterTable(name: name, addresses: addresses), forwardsIPv6: host.network.routesIPv6)
    plan.interface = MachineInterface(
      name: UserNetwork.interface, hardware: hardwareAddress, mtu: 1500, addresses: addresses.map(interfaceAddress),
      // Where the host has no way, the machine is told at once.
      gateways: gateways.filter { host.network.routesIPv6 || $0.bytes.count == 4 }.map(\.bytes))
    plan.relayedServers = relayedServers(asked: host.network.nameServers)
    for (isOn, setting) in [
      (host.network.forwards4, "net.ipv4.ip_forward"),
      (host.network.forwards6 || !host.network.routesIPv6, "net.ipv6.conf.all.forwarding"),
    ] where !isOn {
      warnings.append("Mode=veth: \(setting) is turned on for the host as a whole, and stays on")
    }
  }

  /// Of 15 bytes at most, unique by the number, and of the machine's name what fits.
  private func vethName(_ number: UInt32) -> String {
    let digits = String(number & 0xffff, radix: 16)
    let padded = String(repeating: "0", count: 4 - digits.utf8.count) + digits
    return "\(VethNetwork.prefix)\(machine.name.description.prefix(7))-\(padded)"
  }

  private func isFree(_ pool: IPAddress, _ bits: UInt8) -> Bool {
    host.network.routes.allSatisfy { route in
      guard !route.interface.hasPrefix(VethNetwork.prefix), route.bits > 0,
        route.address.bytes.count == pool.bytes.count
      else { return true }
      let common = Int(min(route.bits, bits))
      let differs = zip(route.address.bytes, pool.bytes).enumerated().contains { index, pair in
        let left = common - index * 8
        let mask: UInt8 = left >= 8 ? 0xff : left <= 0 ? 0 : ~(0xff >> UInt8(left))
        return (pair.0 ^ pair.1) & mask != 0
      }
      return differs
    }
  }

  /// The host's name servers as the machine finds them. They may be at the host's loopback or at an address of its own,
  /// where nothing of the machine's gets to by itself.
  func relayedServers(asked servers: [IPAddress]) -> [RelayedServer] {
    zip(UserNetwork.nameServers, servers).map { RelayedServer(address: $0, server: $1) }
  }
}
