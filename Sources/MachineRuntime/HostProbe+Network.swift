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
    facts.routesIPv6 = routesIPv6()
    let path = "/etc/resolv.conf"
    facts.resolvConf = (try? Descriptor.open(path).readAll(limit: 65536, subject: path)) ?? []
    return facts
  }

  /// A line of `/proc/net/ipv6_route` for each route: destination, bits, …, flags, interface. The kernel's own default
  /// route, which refuses, is one of the loopback interface.
  private static func routesIPv6() -> Bool {
    let path = "/proc/net/ipv6_route"
    guard let bytes = try? Descriptor.open(path).readAll(limit: 16 << 20, subject: path) else { return false }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").contains { line in
      let fields = line.split(separator: " ")
      return fields.count > 9 && fields[0].allSatisfy { $0 == "0" } && fields[1] == "00" && fields[9] != "lo"
    }
  }
}
