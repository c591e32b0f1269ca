import CLinux
import Glibc
import Linux
import MachinePlan
import MachineSpec

extension NetworkFacts {
  /// Which forwarders are installed, and what the host's own network has.
  static func probe() -> NetworkFacts {
    var facts = NetworkFacts()
    for (kind, name) in [(ForwarderKind.slirp4netns, "slirp4netns"), (.pasta, "pasta")] {
      let path = "/usr/bin/\(name)"
      if access(path, X_OK) == 0 { facts.forwarders.append(InstalledForwarder(kind: kind, path: path)) }
    }
    facts.hasTun = access("/dev/net/tun", F_OK) == 0
    facts.opensTun = access("/dev/net/tun", R_OK | W_OK) == 0
    facts.routes = routes()
    facts.routesIPv6 = facts.routes.contains { $0.address == .v6(0) && $0.bits == 0 && $0.interface != "lo" }
    facts.nft = PacketFilter.program
    facts.ownsNetwork = clinux_owns_network() && Capabilities.has("CAP_NET_ADMIN")
    facts.forwards4 = isOn("ipv4/ip_forward")
    facts.forwards6 = isOn("ipv6/conf/all/forwarding")
    let path = "/etc/resolv.conf"
    facts.resolvConf = (try? Descriptor.open(path).readAll(limit: 65536, subject: path)) ?? []
    return facts
  }

  private static func isOn(_ setting: String) -> Bool {
    let path = "/proc/sys/net/\(setting)"
    return (try? Descriptor.open(path).readHead(2, subject: path))?.first.map { $0 != UInt8(ascii: "0") } ?? false
  }

  /// A line of `/proc/net/route` for each: interface, destination, gateway, …, mask, the numbers as the processor has
  /// them in memory. A line of `/proc/net/ipv6_route`: destination, bits, …, flags, interface; the kernel's own default
  /// route, which refuses, is one of the loopback interface.
  private static func routes() -> [HostRoute] {
    func lines(_ path: String) -> [[Substring]] {
      guard let bytes = try? Descriptor.open(path).readAll(limit: 16 << 20, subject: path) else { return [] }
      return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
        line.split { $0 == " " || $0 == "\t" }
      }
    }
    let four = lines("/proc/net/route").compactMap { fields -> HostRoute? in
      guard fields.count > 7, let address = UInt32(fields[1], radix: 16), let mask = UInt32(fields[7], radix: 16)
      else { return nil }
      return HostRoute(
        address: .v4(UInt32(bigEndian: address)), bits: UInt8(mask.nonzeroBitCount), interface: String(fields[0]))
    }
    let six = lines("/proc/net/ipv6_route").compactMap { fields -> HostRoute? in
      guard fields.count > 9, let address = UInt128(fields[0], radix: 16), let bits = UInt8(fields[1], radix: 16)
      else { return nil }
      return HostRoute(address: .v6(address), bits: bits, interface: String(fields[9]))
    }
    return four + six
  }
}
