import MachinePlan
import MachineSpec
import StageProtocol
import Testing

private func plan(
  _ text: String, _ forwarders: [ForwarderKind], tun: Bool = true, ipv6: Bool = true,
  _ change: (inout HostFacts) -> Void = { _ in }
) throws -> MachinePlan {
  var host = HostFacts()
  host.cgroup.layout = .unified
  host.network.forwarders = forwarders.map { InstalledForwarder(kind: $0, path: "/usr/bin/\($0)") }
  host.network.hasTun = tun
  host.network.routesIPv6 = ipv6
  change(&host)
  let (spec, _) = Spec.parse(files: [Spec.File(name: "t", bytes: Array(text.utf8))])
  let machine = MachineFacts(
    name: try MachineName("web"), uuid: try MachineUUID("fffff789abcdef0123456789abcdef01"), rootID: 524288,
    idCount: 65536, mountPoint: "/run/m", root: .layers(["/base"], upper: "/up", work: "/wk"))
  return try MachinePlan(spec: spec, host: host, machine: machine)
}

@Suite struct NetworkPlanTests {
  private func text(of path: String, in plan: MachinePlan) -> String? {
    for case .file(path, _, let contents) in plan.stage.operations { return String(decoding: contents, as: UTF8.self) }
    return nil
  }

  @Test func withoutAWordAMachineIsOnTheNet() throws {
    let made = try plan("", [.slirp4netns])
    #expect(made.network.mode == .user && made.network.forwarder?.kind == .slirp4netns)
    #expect(made.network.interface?.gateways.count == 2)
    #expect(text(of: "/etc/resolv.conf", in: made)?.contains("nameserver 10.0.2.3\n") == true)
    #expect(text(of: "/run/systemd/network/90-henge.network", in: made)?.contains("Address=10.0.2.100/24\n") == true)
  }

  @Test func withNoneItFindsNothingOfIt() throws {
    let made = try plan("[Network]\nMode=none\n", [])
    #expect(made.network == NetworkPlan())
    #expect(text(of: "/etc/resolv.conf", in: made) == nil)
    #expect(text(of: "/run/systemd/network/90-henge.network", in: made) == nil)
  }

  @Test func autoSaysWhy() throws {
    let both = try plan("", [.pasta, .slirp4netns]).network.forwarder
    #expect(both?.kind == .slirp4netns && both?.reason.isEmpty == false)
    #expect(try plan("", [.pasta]).network.forwarder?.kind == .pasta)
    #expect(try plan("[Network]\nForwarder=pasta\n", [.pasta, .slirp4netns]).network.forwarder?.kind == .pasta)
  }

  @Test(arguments: [
    ("", [], "slirp4netns"), ("[Network]\nForwarder=pasta\n", [ForwarderKind.slirp4netns], "passt"),
    ("[Network]\nForwarder=slirp4netns\n", [.pasta], "slirp4netns"),
  ])
  func aForwarderThatIsNotThereIsRefusedByItsPackage(text: String, installed: [ForwarderKind], package: String) {
    let error = #expect(throws: PlanError.self) { try plan(text, installed) }
    #expect(error?.isHostsFault == true && error?.advice?.contains("apt-get install \(package)") == true)
  }

  @Test func withSocketsThereIsNothingButALoopback() throws {
    func sockets(_ text: String = "", _ change: (inout HostFacts) -> Void = { _ in }) throws -> MachinePlan {
      try plan("[Network]\nMode=sockets\n" + text, [], tun: false) { host in
        host.network.resolvConf = Array("nameserver 127.0.0.53\n".utf8)
        change(&host)
      }
    }
    let made = try sockets()
    let interface = try #require(made.network.interface)
    #expect(interface.name == "lo" && interface.gateways.isEmpty && interface.hardware.isEmpty)
    #expect(interface.addresses.map(\.prefix) == [32, 128])
    #expect(made.network.handOff && made.stage.operations.contains(.watchConnections))
    #expect(made.network.relayedServers.map { "\($0.address) \($0.server)" } == ["10.0.2.3 127.0.0.53"])
    #expect(text(of: "/etc/resolv.conf", in: made)?.hasSuffix("nameserver 10.0.2.3\n") == true)
    #expect(text(of: "/run/systemd/network/90-henge.network", in: made) == nil)
    let skipped = "/run/systemd/system/systemd-networkd-wait-online.service.d/90-henge.conf"
    #expect(text(of: skipped, in: made)?.contains("ConditionPathExists=!") == true)
    // Nobody gets a question to a server of the operator's but the relay.
    let named = try sockets("DNS=192.0.2.53 2001:db8::53\n")
    #expect(
      named.network.relayedServers.map { "\($0.address) \($0.server)" }
        == ["10.0.2.3 192.0.2.53", "10.0.2.5 2001:db8::53"])
    #expect(text(of: "/etc/resolv.conf", in: named)?.hasSuffix("nameserver 10.0.2.3\nnameserver 10.0.2.5\n") == true)
    #expect(try sockets { $0.network.routesIPv6 = false }.network.interface?.addresses.count == 1)
  }

  /// The kernel mounts a sysfs only for who owns the network namespace that it shows.
  @Test(arguments: [Privilege.root, .namespaceRoot])
  func whoSharesTheHostsNetworkSeesItsSysfs(privilege: Privilege) throws {
    let made = try plan("[Network]\nMode=host-insecure\n", []) { host in
      host.privilege = privilege
      host.network.resolvConf = Array("search test\nnameserver 127.0.0.53\n".utf8)
    }
    let operations = made.stage.operations
    let boundary = try #require(operations.firstIndex(of: .enterNamespaces(sharesNetwork: true)))
    let shown = try #require(
      operations.firstIndex {
        if case .bind(let bind) = $0 { bind.source == "/sys" && bind.path == "/sys" } else { false }
      })
    #expect(shown < boundary)
    guard case .bind(let bind) = operations[shown] else { return }
    #expect(bind.attributes.contains(.readOnly) && bind.recursive == (privilege != .root))
    #expect(!operations.contains { if case .mount("sysfs", _, _, _) = $0 { true } else { false } })
    guard case .confine(let dropped)? = operations.last else { return #expect(Bool(false), "nothing is confined") }
    #expect(dropped.contains(12))
    #expect(text(of: "/etc/resolv.conf", in: made)?.hasSuffix("search test\nnameserver 127.0.0.53\n") == true)
    #expect(made.warnings.contains { $0.contains("loopback") && $0.contains("abstract sockets") })
    #expect(made.network.mode == .hostInsecure && made.network.interface == nil)
  }

  private static let veth = "[Network]\nMode=veth\n"

  private func pair(_ change: (inout HostFacts) -> Void = { _ in }) throws -> MachinePlan {
    try plan(Self.veth, []) { host in
      host.network.nft = "/usr/sbin/nft"
      host.network.resolvConf = Array("nameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n".utf8)
      change(&host)
    }
  }

  @Test func aPairHasTheNumberOfTheMachinesIDs() throws {
    let made = try pair()
    let veth = try #require(made.network.veth)
    let interface = try #require(made.network.interface)
    // 524288 is the eighth range of ids.
    #expect(veth.hostEnd.name == "he-web-0008" && veth.filter.name == veth.hostEnd.name)
    #expect(interface.addresses.first == InterfaceAddress(bytes: [10, 216, 0, 34], prefix: 30))
    #expect(veth.hostEnd.addresses.first == InterfaceAddress(bytes: [10, 216, 0, 33], prefix: 30))
    #expect(interface.gateways == veth.hostEnd.addresses.map(\.bytes))
    #expect(interface.hardware != veth.hostEnd.hardware && veth.hostEnd.hardware[0] & 3 == 2)
    let text = text(of: "/run/systemd/network/90-henge.network", in: made) ?? ""
    #expect(text.contains("Gateway=10.216.0.33\n") && text.contains("Address=fd48:656e:6765:8::2/64\n"), "\(text)")
    #expect(made.warnings == [])
  }

  @Test func theHostsNameServersAreAskedByARelay() throws {
    let made = try pair()
    let servers = made.network.relayedServers.map { "\($0.address) \($0.server)" }
    #expect(servers == ["10.0.2.3 127.0.0.53", "10.0.2.5 192.0.2.53"])
    #expect(text(of: "/etc/resolv.conf", in: made)?.hasSuffix("nameserver 10.0.2.3\nnameserver 10.0.2.5\n") == true)
  }

  /// The list is the same one that guards forwarders, and comes before anybody else's rule.
  @Test func thePacketFilterClosesWhatIsClosed() throws {
    let script = try #require(try pair().network.veth?.filter.script)
    for prefix in ClosedAddresses.prefixes {
      let address = try #require(IPAddress(prefix.bytes))
      #expect(script.contains("\(address)/\(prefix.bits)"), "\(address)")
    }
    #expect(script.hasPrefix("add table inet he-web-0008\ndelete table inet he-web-0008\ntable"))
    #expect(script.contains("hook prerouting priority mangle") && script.contains("fib daddr type != unicast drop"))
    #expect(script.contains("ip saddr 10.216.0.34 oifname != \"he-web-0008\" masquerade"))
  }

  @Test func aPairStaysOutOfTheHostsNetworks() throws {
    func address(_ routes: [(IPAddress, UInt8, String)]) throws -> [UInt8]? {
      try pair { host in
        host.network.routes = routes.map { HostRoute(address: $0.0, bits: $0.1, interface: $0.2) }
      }.network.interface?.addresses.first?.bytes
    }
    let some = IPAddress.v4(0x0ad9_0100)
    #expect(try address([(some, 24, "eth0")]) == [172, 24, 0, 34])
    // The default route, other machines, and one that all of it is in.
    #expect(try address([(.v4(0), 0, "eth0"), (some, 30, "he-other-0009")]) == [10, 216, 0, 34])
    #expect(try address([(.v4(0x0a00_0000), 8, "eth0")]) == [172, 24, 0, 34])
    let error = #expect(throws: PlanError.self) {
      try address([(.v4(0x0a00_0000), 8, "eth0"), (.v4(0xac10_0000), 12, "eth1")])
    }
    #expect(error?.isHostsFault == true && error?.reason.contains("10.216.0.0/14") == true)
  }

  @Test func whatAPairTakesIsNamed() throws {
    let noProgram = #expect(throws: PlanError.self) { try plan(Self.veth, []) }
    #expect(noProgram?.advice == "apt-get install nftables")
    let noRight = #expect(throws: PlanError.self) { try pair { $0.network.ownsNetwork = false } }
    #expect(noRight?.isHostsFault == true && noRight?.reason.contains("root") == true)
    let warned = try pair { host in
      host.network.forwards4 = false
      host.network.forwards6 = false
    }
    #expect(warned.warnings.count == 2 && warned.warnings[0].contains("net.ipv4.ip_forward"))
    // Without a way for IPv6 there is nothing to forward, and the machine is told at once.
    let four = try pair { host in
      host.network.routesIPv6 = false
      host.network.forwards6 = false
    }
    #expect(four.network.interface?.gateways.count == 1 && four.warnings == [])
    #expect(four.network.veth?.forwardsIPv6 == false)
  }

  @Test func withoutADeviceThereIsNoTap() {
    let error = #expect(throws: PlanError.self) { try plan("", [.slirp4netns], tun: false) }
    #expect(error?.advice == "modprobe tun")
  }

  @Test func theHardwareAddressIsTheMachinesOwnAndStays() throws {
    let made = try plan("", [.slirp4netns]).network.interface?.hardware
    #expect(made == [0xfe, 0xff, 0xf7, 0x89, 0xab, 0xcd])
    #expect(try made == plan("", [.pasta]).network.interface?.hardware)
    let given = try plan("[Network]\nMAC=02:00:00:00:00:07\n", [.pasta]).network.interface?.hardware
    #expect(given == [2, 0, 0, 0, 0, 7])
  }

  @Test func pastaOnAHostWithoutIPv6GivesNoRouteThatLeadsNowhere() throws {
    #expect(try plan("", [.pasta], ipv6: false).network.interface?.gateways.count == 1)
    #expect(try plan("", [.slirp4netns], ipv6: false).network.interface?.gateways.count == 2)
  }

  /// Whoever is confined already may not set the trap; nobody who could get around it may run before.
  @Test func handOffSetsItsTrapWhileAllRightsAreThere() throws {
    let made = try plan("[Network]\nHandOff=yes\n", [.slirp4netns])
    #expect(made.network.handOff)
    let place = try #require(made.stage.operations.firstIndex(of: .watchConnections))
    #expect(place == made.stage.operations.count - 2)
    guard case .confine = made.stage.operations[place + 1] else { return #expect(Bool(false), "nothing is confined") }
    #expect(try !plan("", [.slirp4netns]).stage.operations.contains(.watchConnections))
  }

  @Test func nameServersOfTheOperatorsCountMore() throws {
    let made = try plan("[Network]\nDNS=192.0.2.53 2001:db8::53\n", [.pasta])
    let text = text(of: "/etc/resolv.conf", in: made) ?? ""
    #expect(text.hasSuffix("nameserver 192.0.2.53\nnameserver 2001:db8::53\n"))
    #expect(!text.contains("10.0.2.3"))
    let own = try plan("[Exec]\nResolvConf=off\n", [.pasta])
    #expect(self.text(of: "/etc/resolv.conf", in: own) == nil)
  }
}
