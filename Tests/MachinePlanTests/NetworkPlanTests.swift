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
    #expect(made.network.tap?.gateways.count == 2)
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

  @Test(arguments: ["sockets", "veth"])
  func modesThatAreNotThereYetAreRefused(mode: String) {
    let error = #expect(throws: PlanError.self) { try plan("[Network]\nMode=\(mode)\n", [.slirp4netns]) }
    #expect(error?.reason.contains("Mode=\(mode)") == true)
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
    #expect(made.network.mode == .hostInsecure && made.network.tap == nil)
  }

  @Test func withoutADeviceThereIsNoTap() {
    let error = #expect(throws: PlanError.self) { try plan("", [.slirp4netns], tun: false) }
    #expect(error?.advice == "modprobe tun")
  }

  @Test func theHardwareAddressIsTheMachinesOwnAndStays() throws {
    let made = try plan("", [.slirp4netns]).network.tap?.hardware
    #expect(made == [0xfe, 0xff, 0xf7, 0x89, 0xab, 0xcd])
    #expect(try made == plan("", [.pasta]).network.tap?.hardware)
    let given = try plan("[Network]\nMAC=02:00:00:00:00:07\n", [.pasta]).network.tap?.hardware
    #expect(given == [2, 0, 0, 0, 0, 7])
  }

  @Test func pastaOnAHostWithoutIPv6GivesNoRouteThatLeadsNowhere() throws {
    #expect(try plan("", [.pasta], ipv6: false).network.tap?.gateways.count == 1)
    #expect(try plan("", [.slirp4netns], ipv6: false).network.tap?.gateways.count == 2)
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
