import MachineSpec
import StageProtocol

extension Planner {
  /// `[Network]`: what connects the machine with the world, and what it finds of that.
  mutating func planNetwork() throws(PlanError) -> NetworkPlan {
    var plan = NetworkPlan()
    plan.mode = networkMode
    switch plan.mode {
    case .none: return plan
    case .hostInsecure:
      warnings.append(NetworkPlan.exposure)
      return plan
    case .user:
      plan.forwarder = try forwarder()
      if !host.network.opensTun {
        warnings.append(
          "/dev/net/tun is for the host's root only, so the machine is off the net: chmod 0666 /dev/net/tun")
      }
      plan.nameServer = UserNetwork.nameServer
      plan.interface = tap(for: plan.forwarder)
    case .veth: try planVeth(&plan)
    case .sockets: planSockets(&plan)
    }
    plan.ports = spec.network.ports
    try checkSocketUnits(plan.unitPorts)
    plan.hostPorts = spec.network.hostPorts
    plan.handOff = spec.network.handOff || plan.mode == .sockets
    return plan
  }

  /// A socket of UDP could be sent from to anywhere, which what listens for connections cannot be made to.
  private func checkSocketUnits(_ ports: [PublishedPort]) throws(PlanError) {
    if let port = ports.first(where: { $0.transport != .tcp }) {
      throw PlanError("Port=\(port): only TCP goes to a socket unit", advice: "leave the socket unit away")
    }
    if ports.count > NetworkPlan.mostUnitPorts {
      throw PlanError("a machine has at most \(NetworkPlan.mostUnitPorts) ports with a socket unit")
    }
  }

  /// The machine's socket unit is told of the host's socket in place of its own.
  private mutating func shapeSocketUnits(_ plan: NetworkPlan) {
    var sockets: [(unit: String, lines: [String])] = []
    for port in plan.unitPorts {
      guard let unit = port.socketUnit else { continue }
      let address =
        switch port.bind {
        case .v4(let number)?: "\(IPAddress.v4(number)):"
        case .v6(let number)?: "[\(IPAddress.v6(number))]:"
        case nil: "[::]:"
        }
      if !sockets.contains(where: { $0.unit == unit }) {
        let only = if case .v6? = port.bind { "ipv6-only" } else { "both" }
        sockets.append((unit, ["[Socket]", "BindIPv6Only=\(only)", "ListenStream="]))
      }
      for index in sockets.indices where sockets[index].unit == unit {
        sockets[index].lines.append("ListenStream=\(address)\(port.host)")
      }
    }
    for (unit, lines) in sockets {
      let folder = "/run/systemd/system/\(unit).d"
      operations += [
        .directory("/run/systemd/system", mode: 0o755), .directory(folder, mode: 0o755),
        .file("\(folder)/90-henge.conf", mode: 0o644, contents: Array((lines.joined(separator: "\n") + "\n").utf8)),
      ]
    }
  }

  var networkMode: NetworkMode { spec.network.mode ?? .user }

  /// Whether the machine has no network namespace of its own.
  var sharesNetwork: Bool { networkMode == .hostInsecure }

  private func forwarder() throws(PlanError) -> PlannedForwarder {
    guard host.network.hasTun else {
      throw PlanError("Mode=user needs /dev/net/tun", advice: "modprobe tun", isHostsFault: true)
    }
    let wanted = spec.network.forwarder
    func installed(_ kind: ForwarderKind) -> InstalledForwarder? {
      host.network.forwarders.first { $0.kind == kind }
    }
    if wanted != .auto {
      guard let found = installed(wanted) else {
        throw PlanError(
          "Forwarder=\(wanted) is not installed", advice: "apt-get install \(wanted.package)", isHostsFault: true)
      }
      return PlannedForwarder(kind: wanted, path: found.path, reason: "")
    }
    // As measured on kernels of this age: uploads by pasta stall again and again, each time for a time-out of TCP's.
    if let found = installed(.slirp4netns) {
      return PlannedForwarder(
        kind: found.kind, path: found.path,
        reason: installed(.pasta) == nil
          ? "the only one installed" : "as fast up as down; pasta's uploads stall on the kernels measured")
    }
    if let found = installed(.pasta) {
      return PlannedForwarder(kind: found.kind, path: found.path, reason: "the only one installed")
    }
    throw PlanError(
      "Mode=user needs a forwarder, and none is installed", advice: "apt-get install slirp4netns, or set Mode=none",
      isHostsFault: true)
  }

  private func tap(for forwarder: PlannedForwarder?) -> MachineInterface {
    var tap = MachineInterface(
      name: UserNetwork.interface, hardware: hardwareAddress, mtu: UserNetwork.mtu,
      addresses: [
        InterfaceAddress(bytes: UserNetwork.address4.bytes, prefix: 24),
        InterfaceAddress(bytes: UserNetwork.address6.bytes, prefix: 64),
      ], gateways: [UserNetwork.gateway4.bytes])
    // On a host without IPv6 slirp4netns says so to whoever tries, pasta says nothing: a program would wait.
    if host.network.routesIPv6 || forwarder?.kind == .slirp4netns { tap.gateways.append(UserNetwork.gateway6.bytes) }
    return tap
  }

  /// `MAC=`, or else one that stays the same for the machine and is nobody's: local, and no group's.
  var hardwareAddress: [UInt8] {
    if let mac = spec.network.mac { return mac.bytes }
    let digits = Array(machine.uuid.plain.utf8.prefix(12)).map { UInt8($0 > 57 ? ($0 | 0x20) - 87 : $0 - 48) }
    var bytes = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    bytes[0] = bytes[0] & 0xfc | 2
    return bytes
  }

  /// What the machine's own programs find of its network. The interface has its addresses before any of them runs; a
  /// networkd gets a description of it all the same, because one that has no interface to manage waits for one.
  mutating func shapeNetwork(_ plan: NetworkPlan) {
    if plan.mode == .hostInsecure { return shapeHostsResolvConf() }
    guard let interface = plan.interface else { return }
    shapeResolvConf(plan)
    shapeSocketUnits(plan)
    if plan.mode == .sockets { return skipWaitingForNetwork() }
    let folder = "/run/systemd/network"
    operations += [
      .directory(folder, mode: 0o755),
      .file("\(folder)/90-henge.network", mode: 0o644, contents: Array(networkdFile(interface, plan).utf8)),
    ]
  }

  /// There is no interface that a service could wait for.
  private mutating func skipWaitingForNetwork() {
    let condition = "[Unit]\nConditionPathExists=!/run/host/container-manager\n"
    operations.append(.directory("/run/systemd/system", mode: 0o755))
    for service in ["systemd-networkd", "NetworkManager"] {
      let folder = "/run/systemd/system/\(service)-wait-online.service.d"
      operations += [
        .directory(folder, mode: 0o755), .file("\(folder)/90-henge.conf", mode: 0o644, contents: Array(condition.utf8)),
      ]
    }
  }

  private func networkdFile(_ interface: MachineInterface, _ plan: NetworkPlan) -> String {
    var lines = [
      "# By Henge: the interface as it stands already. A file of the machine's own with a smaller number counts more.",
      "[Match]", "Name=\(interface.name)", "",
      "[Network]", "LinkLocalAddressing=ipv6", "IPv6AcceptRA=no", "ConfigureWithoutCarrier=yes",
      "IgnoreCarrierLoss=yes", "KeepConfiguration=static",
    ]
    lines += interface.gateways.compactMap { IPAddress($0) }.map { "Gateway=\($0)" }
    lines += nameServers(plan).map { "DNS=\($0)" }
    for address in interface.addresses {
      guard let shown = IPAddress(address.bytes) else { continue }
      lines += ["", "[Address]", "Address=\(shown)/\(address.prefix)"]
      if address.bytes.count == 16 { lines.append("DuplicateAddressDetection=none") }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// `Mode=sockets`: nothing but the loopback, which has the machine's addresses, so that who looks finds that there
  /// are such. Questions for names are packets, so a relay asks.
  private mutating func planSockets(_ plan: inout NetworkPlan) {
    var addresses = [InterfaceAddress(bytes: UserNetwork.address4.bytes, prefix: 32)]
    // Where the host has no way, nobody looks for addresses of IPv6.
    if host.network.routesIPv6 { addresses.append(InterfaceAddress(bytes: UserNetwork.address6.bytes, prefix: 128)) }
    plan.interface = MachineInterface(name: "lo", hardware: [], mtu: 0, addresses: addresses, gateways: [])
    plan.relayedServers = relayedServers(asked: spec.network.dns.isEmpty ? host.network.nameServers : spec.network.dns)
  }

  private func nameServers(_ plan: NetworkPlan) -> [IPAddress] {
    guard plan.mode != .sockets else { return plan.relayedServers.map(\.address) }
    guard spec.network.dns.isEmpty else { return spec.network.dns }
    return [plan.nameServer].compactMap { $0 } + plan.relayedServers.map(\.address)
  }

  /// `ResolvConf=auto`: a regular file that names who answers here. A root that cannot be written to keeps its own.
  private mutating func shapeResolvConf(_ plan: NetworkPlan) {
    let servers = nameServers(plan)
    guard !servers.isEmpty else { return }
    writeResolvConf(Array(servers.map { "nameserver \($0)\n" }.joined().utf8))
  }

  /// Who shares the host's network asks whom the host asks, at its loopback as well.
  private mutating func shapeHostsResolvConf() {
    let servers = spec.network.dns.map { "nameserver \($0)\n" }.joined()
    let contents = spec.network.dns.isEmpty ? host.network.resolvConf : Array(servers.utf8)
    if !contents.isEmpty { writeResolvConf(contents) }
  }

  private mutating func writeResolvConf(_ contents: [UInt8]) {
    guard spec.exec.resolvConf == .auto, spec.files.volatile != .state else { return }
    let text = "# Written by Henge at each start; ResolvConf=off keeps what is here.\n"
    operations.append(.file("/etc/resolv.conf", mode: 0o644, contents: Array(text.utf8) + contents))
  }
}

extension NetworkPlan {
  /// What `Mode=host-insecure` gives away.
  static let exposure =
    "Mode=host-insecure: the machine shares the host's network: it reaches the host's loopback and abstract sockets, and "
    + "what else listens, and takes ports of the host's"

  /// By the way of socket activation: from descriptor 3 on, with the number of the process that they are for, which in
  /// the machine is 1.
  func passSockets(to stage: inout StagePlan) {
    guard !unitPorts.isEmpty else { return }
    stage.sockets = UInt8(clamping: unitPorts.count)
    stage.environment += ["LISTEN_PID=1", "LISTEN_FDS=\(unitPorts.count)"]
  }
}

extension ForwarderKind {
  /// Debian's package that has it.
  var package: String { self == .pasta ? "passt" : rawValue }
}
