import MachinePlan
import MachineSpec
import StageProtocol

/// How each forwarder is called.
enum ForwarderProgram {
  /// Where the forwarder finds the machine's network namespace, and nothing that could become another one meanwhile.
  private static let namespace = "/proc/self/fd/\(CarrierDescriptor.network)"

  static func arguments(_ forwarder: PlannedForwarder, tap: MachineInterface) -> [String] {
    forwarder.kind == .pasta ? pasta(tap) : slirp4netns(tap)
  }

  private static func slirp4netns(_ tap: MachineInterface) -> [String] {
    [
      "slirp4netns", "--mtu=\(tap.mtu)", "--enable-ipv6", "--disable-host-loopback", "--enable-sandbox",
      "--enable-seccomp", "--exit-fd=\(CarrierDescriptor.extra)", "--netns-type=path", namespace, tap.name,
    ]
  }

  private static func pasta(_ tap: MachineInterface) -> [String] {
    [
      "pasta", "--foreground", "--quiet", "--netns", namespace, "--no-netns-quit", "--ns-ifname", tap.name,
      "--mtu", "\(tap.mtu)", "--address", "\(UserNetwork.address4)", "--netmask", "24",
      "--address", "\(UserNetwork.address6)", "--gateway", "\(UserNetwork.gateway4)",
      "--gateway", "\(UserNetwork.gateway6)", "--mac-addr", gatewayHardware, "--no-map-gw", "--no-ra",
      "--dns-forward", "\(UserNetwork.nameServer)",
      "-t", "none", "-u", "none", "-T", "none", "-U", "none",
    ]
  }

  /// The Ethernet address that the machine sees its gateway at. The host's own is nobody's business.
  private static let gatewayHardware = "02:00:0a:00:02:02"
}
