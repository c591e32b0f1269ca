import MachineSpec
import StageProtocol

extension NetworkPlan {
  /// What connects the machine with the world, a line each.
  public var lines: [String] {
    var lines = [summary]
    if let interface {
      let addresses = interface.addresses.compactMap { address in
        IPAddress(address.bytes).map { "\($0)/\(address.prefix)" }
      }
      let gateways = interface.gateways.compactMap { IPAddress($0)?.description }
      let way = gateways.isEmpty ? "" : ", by the gateways \(gateways.joined(separator: " "))"
      lines.append("\(interface.name): \(addresses.joined(separator: " "))\(way)")
    }
    for server in relayedServers { lines.append("a relay to the name server \(server.server), at \(server.address)") }
    for port in ports { lines.append("publish \(port)") }
    for port in hostPorts { lines.append("show the host's \(port) at \(UserNetwork.host4)") }
    if handOff { lines.append("the host makes outgoing TCP connections") }
    if let veth {
      lines.append("the table \(veth.filter.name) of the host's packet filter:")
      lines += veth.filter.script.split(separator: "\n").map { "  \($0)" }
    }
    return lines
  }

  private var summary: String {
    switch mode {
    case .user: "a tap device, and \(forwarder.map { "\($0.kind)" } ?? "a forwarder") behind it"
    case .none: "a loopback"
    case .hostInsecure: "the host's own"
    case .veth: "a pair of virtual Ethernet devices, \(veth?.hostEnd.name ?? "") on the host"
    case .sockets: "no way for packets; what is no connection of TCP is refused by the machine itself"
    }
  }
}

extension HostStep {
  /// The step, and what belongs to it, a line each.
  public var lines: [String] {
    guard case .cgroup(let plan) = self else { return [description] }
    let passed = plan.controllers.isEmpty ? [] : ["give it the controllers \(plan.controllers.joined(separator: " "))"]
    return [description] + passed + plan.limits.map { "\($0)" }
  }

  /// One line that says what is done to what.
  public var description: String {
    switch self {
    case .shiftOwnership(let path, let from, let to, _): "give the files of \(path) from ids \(from)… to ids \(to)…"
    case .cgroup(let plan) where plan.keeper == .scope:
      "have the host's systemd make the scope \(plan.name), its payload for id \(plan.delegate)"
    case .cgroup(let plan): "make the control group \(plan.parent)/\(plan.name), its payload for id \(plan.delegate)"
    case .journalFolder(let path, let owner): "make the journal folder \(path), for id \(owner)"
    case .scratchFolder(let path, _, _): "make the folder \(path) for what is written, gone when the machine stops"
    case .userNamespace(let base, let count): "make a user namespace: 0 is \(base), \(count) ids"
    }
  }
}
