import Glibc
import Linux
import Testing
import Varlink

/// `Mode=veth`: machines behind a pair of devices and the packet filter of the host, which a lab plays here.
@Suite("A pair of devices", .serialized)
struct VethTests {
  private static let mode = "Mode=veth"
  private let four = NetworkLab.outside4
  private let six = NetworkLab.outside6

  /// Tables and interfaces of machines, as the host shows them.
  private func traces(_ lab: NetworkLab) throws -> String {
    try lab.onHost("sh", "-c", "nft list tables; ip -o link | grep -o 'he-[^@:]*'; true").text
  }

  private func addresses(_ lab: NetworkLab, _ name: String) throws -> [String] {
    let texts = try lab.network(of: name)["addresses"]?.arrayValue?.compactMap(\.stringValue) ?? []
    return texts.compactMap { $0.split(separator: "/").first.map(String.init) }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bookworm", "trixie", "forky"])
  func aStockMachineIsOnTheNet(_ suite: String) throws {
    try withLab("veth-\(suite)", suite) { lab in
      let name = lab.sandbox.name("v")
      try lab.succeed("create", "-s", Self.mode, suite, name)
      let before = lab.sandbox.snapshot()
      let planned = try lab.hengectl(["plan", name])
      #expect(planned.text.contains("masquerade") && planned.errors.contains("net.ipv4.ip_forward"), "\(planned)")
      try lab.succeed("start", "-s", "Port=8080:80", "-s", "Port=udp:5007:7", name)
      var guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      #expect(try guest.succeed("stat", "-c", "%F", "/etc/resolv.conf") == "regular file")
      try checkTraffic(lab, guest)
      try checkPorts(lab, guest, name)
      let there = try addresses(lab, name)
      let hardware = try guest.succeed("cat", "/sys/class/net/eth0/address")

      try lab.succeed("reboot", name)
      guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      try checkTraffic(lab, guest)
      #expect(try addresses(lab, name) == there)
      #expect(try guest.succeed("cat", "/sys/class/net/eth0/address") == hardware)
      let text = try lab.succeed("status", name)
      #expect(text.contains("veth (he-") && text.contains(there.first ?? "-"), "\(text)")

      try lab.succeed("poweroff", name)
      #expect(try traces(lab) == "")
      // The folder that all running machines share stays, and so does the test's own server in the machine's network.
      let left = lab.sandbox.difference(from: before).filter {
        $0 != "+ file \(lab.sandbox.runtime)/machines" && !$0.contains("(python3)")
      }
      #expect(left == [])
    }
  }

  private func checkTraffic(_ lab: NetworkLab, _ guest: Guest) throws {
    #expect(try guest.shell("getent ahosts some.name.test").text.contains(four))
    #expect(try guest.shell("getent ahostsv6 some.name.test").text.contains(six))
    let script = """
      set -e; url=http://\(four)
      [ "$(curl -sf -m 60 $url/104857600 | sha256sum | head -c 64)" = "$(curl -sf $url/104857600/digest)" ]
      head -c 50000000 /dev/urandom >$1
      [ "$(curl -sf -m 60 -T $1 $url/x)" = "$(sha256sum <$1 | head -c 64)" ]; rm $1
      curl -sf -m 10 -o /dev/null http://[\(six)]/100000
      ping -c 1 -W 5 \(four) >/dev/null; ping -c 1 -W 5 \(six) >/dev/null; echo all
      """
    let outcome = try lab.client(guest, "sh", "-c", script, "sh", "\(lab.sandbox.folder)/up", deadline: 150)
    #expect(outcome.text == "all", "\(outcome)")
    let echo = "exec 3<>/dev/udp/$0/7; printf hello >&3; read -r -t 5 -N 5 answer <&3; echo $answer"
    for address in [four, six] { #expect(try guest.run("bash", "-c", echo, address).text == "hello", "\(address)") }
  }

  private func checkPorts(_ lab: NetworkLab, _ guest: Guest, _ name: String) throws {
    try lab.serve(in: guest.leader, try addresses(lab, name))
    for url in ["http://\(NetworkLab.host4):8080/1000", "http://[\(NetworkLab.host6)]:8080/1000"] {
      #expect(try lab.outside("curl", "-sf", "-m", "5", "-o", "/dev/null", url).code == 0, "\(url)")
    }
    let echo = "exec 3<>/dev/udp/$0/5007; printf hello >&3; read -r -t 5 -N 5 answer <&3; echo $answer"
    #expect(try lab.outside("bash", "-c", echo, NetworkLab.host4).text == "hello")
    // From the host by its own address; from outside by nothing but what is published.
    let address = try #require(try addresses(lab, name).first)
    #expect(try lab.onHost("curl", "-sf", "-m", "5", "-o", "/dev/null", "http://\(address)/10").code == 0)
    try lab.outside("ip", "route", "add", "\(address)/32", "via", NetworkLab.host4)
    #expect(try lab.outside("curl", "-sf", "-m", "2", "-o", "/dev/null", "http://\(address)/10").code != 0)
    try lab.succeed("port", name, "add", "8090:80")
    #expect(try lab.outside("curl", "-sf", "-m", "5", "-o", "/dev/null", "http://\(NetworkLab.host4):8090/1").code == 0)
  }

  /// A networkd that is enabled takes the interface as it stands, and nothing waits for it.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bookworm", "trixie", "forky"])
  func networkdKeepsWhatIsThere(_ suite: String) throws {
    try withLab("veth-networkd", suite) { lab in
      let name = lab.sandbox.name("d")
      try lab.succeed("create", "-s", Self.mode, suite, name)
      try lab.succeed("start", name)
      let enabled = try lab.sandbox.guest(name).shell(
        "systemctl enable systemd-networkd systemd-networkd-wait-online 2>&1; systemctl add-wants multi-user.target network-online.target"
      )
      #expect(enabled.code == 0, "\(enabled)")
      try lab.succeed("reboot", name, deadline: 60)
      let guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      #expect(
        try guest.succeed("systemctl", "is-active", "systemd-networkd", "network-online.target") == "active\nactive")
      try checkTraffic(lab, guest)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func nothingOfTheHostIsReachableThatIsNotNamed() throws {
    try withLab("veth-scan") { lab in
      let name = lab.sandbox.name("s")
      let other = lab.sandbox.name("o")
      let (host4, host6) = (NetworkLab.host4, NetworkLab.host6)
      try lab.serveOnHost(["127.0.0.1", "::1", "127.0.0.1/5432", "::1/5433"])
      try lab.serveOnHost([host4, host6, "\(host4)/8081"])
      try lab.listenOnHostAbstractly("henge-test")
      // As Docker leads its published ports: past whatever looks at what is for the host itself.
      try runWell([
        "nsenter", "-t", "\(lab.hostProcess)", "-n", "nft",
        "table ip other { chain pre { type nat hook prerouting priority dstnat; "
          + "fib daddr type local tcp dport 9999 dnat to \(NetworkLab.outside4):80; }; }",
      ])
      for machine in [name, other] {
        try lab.succeed("create", "-s", Self.mode, "-s", "HostPort=5432", "trixie", machine)
        try lab.succeed("start", machine)
      }
      let guest = try lab.sandbox.guest(name)
      let neighbour = try addresses(lab, other)
      let own = try addresses(lab, name)
      #expect(neighbour.count == 2 && Set(neighbour).isDisjoint(with: own))
      try lab.serve(in: try lab.sandbox.guest(other).leader, neighbour)
      let gateways = try lab.onHost("ip", "-o", "-br", "addr", "show", "dev", try hostEnd(lab, name)).text
        .split(separator: " ").dropFirst(2).compactMap { $0.split(separator: "/").first.map(String.init) }
      #expect(gateways.count == 3, "\(gateways)")
      // The machine's root may lead what it likes into its end of the pair, and send by whatever name.
      try lab.client(
        guest, "sh", "-c",
        """
        echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
        ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via \(gateways[0]) dev eth0
        ip -6 addr del ::1/128 dev lo; ip -6 route add ::1/128 via \(gateways[1]) dev eth0
        """)
      var urls = ["http://10.0.2.4:80/10", "http://10.0.2.4:5433/10", "http://\(host4):9999/10"]
      for address in gateways + neighbour + [
        host4, host6, "127.0.0.1", "127.0.0.53", "0.0.0.0", NetworkLab.metadata, "::1", "::ffff:\(host4)",
        "::ffff:127.0.0.1", "10.0.2.3", "fd00:ec2::254",
      ] {
        let shown = address.contains(":") ? "[\(address)\(address.hasPrefix("fe80") ? "%25eth0" : "")]" : address
        urls += ["80", "5432", "8081"].map { "http://\(shown):\($0)/10" }
      }
      let named = ["http://10.0.2.4:5432/", "http://\(NetworkLab.outside4)/10"]
      let found = try lab.hits(guest, named + urls)
      #expect(found == named.sorted(), "\(found)")
      #expect(try lab.hitsByDatagrams(guest, gateways + neighbour + [host4, host6, "127.0.0.1", "::1"]) == [])
      #expect(try lab.hitsByDatagrams(guest, [NetworkLab.outside4]) == [NetworkLab.outside4])
      #expect(try !lab.reachesAbstractly("henge-test", from: guest.leader))
      #expect(try lab.reachesAbstractly("henge-test", from: lab.hostProcess))
      // With an address that is not its own: the neighbour's, and one of the outer network.
      for address in [neighbour[0], "192.0.2.200"] {
        try lab.client(guest, "ip", "addr", "add", "\(address)/32", "dev", "eth0")
        let outcome = try lab.client(
          guest, "curl", "-s", "-m", "2", "--interface", address, "http://\(NetworkLab.outside4)/10")
        #expect(outcome.code != 0, "\(address) \(outcome)")
      }
      let foundAgain = try lab.hits(guest, named)
      #expect(foundAgain == named.sorted(), "\(foundAgain)")
    }
  }

  private func hostEnd(_ lab: NetworkLab, _ name: String) throws -> String {
    try #require(try lab.network(of: name)["hostInterface"]?.stringValue)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func withAKilledSupervisorNothingStays() throws {
    try withLab("veth-kill") { lab in
      let name = lab.sandbox.name("k")
      try lab.succeed("create", "-s", Self.mode, "trixie", name)
      try lab.succeed("start", "-s", "Port=8080:80", name)
      #expect(try traces(lab).contains("he-"))
      let supervisor = try lab.sandbox.hengectl("status", "--json", name).json()["supervisor"]?.intValue ?? 0
      kill(Int32(supervisor), SIGKILL)
      // Whoever looks at the machine next puts things right.
      let cleared = try lab.time(until: 10) {
        try lab.succeed("list")
        return try traces(lab) == ""
      }
      #expect(cleared != nil)
      try lab.succeed("start", "-s", "Port=8080:80", name)
      #expect(try lab.client(try lab.sandbox.guest(name), "curl", "-sf", "-m", "5", "http://\(four)/10").code == 0)
      // Its relays are started again, for the same machine.
      kill(try lab.process("hostRelay", of: name), SIGKILL)
      let guest = try lab.sandbox.guest(name)
      let back = try lab.time(until: 10) { try guest.shell("getent ahosts some.name.test").code == 0 }
      #expect((back ?? 99) < 2, "back after \(back ?? -1) s")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatCannotBeHadIsRefusedBeforeAnythingRuns() throws {
    try withLab("veth-refused") { lab in
      let name = lab.sandbox.name("r")
      try lab.succeed("create", "-s", Self.mode, "trixie", name)
      let hidden = "for f in /usr/sbin/nft /sbin/nft; do [ ! -e $f ] || mount --bind /dev/null $f; done;"
      let noPools = "for n in 10.216.0.0/16 172.24.1.0/24 10.183.255.0/24; do ip route add blackhole $n; done;"
      for (setting, code, word, before) in [
        ("HandOff=yes", 2, "HandOff= cannot stand beside Mode=veth", ""),
        ("MAC=", 5, "apt-get install nftables", hidden),
        ("Port=0:80", 2, "Port=", ""), ("MAC=", 5, "addresses", noPools),
      ] as [(String, Int32, String, String)] {
        let outcome = try lab.hengectl(["start", "-s", setting, name], before: before)
        #expect(outcome.code == code && outcome.errors.contains(word), "\(setting): \(outcome)")
        #expect(names(in: "\(lab.sandbox.runtime)/machines") == [], "\(setting)")
        #expect(try traces(lab) == "")
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func anOrdinaryUserIsToldWhyNot() throws {
    try withUsers("veth-user", ids: [131072]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("create", "trixie", "pair")
      let outcome = try user.hengectl("start", "-s", Self.mode, "pair")
      #expect(outcome.code == 5 && outcome.errors.contains("Mode=veth takes root"), "\(outcome)")
      #expect(user.processes.isEmpty)
    }
  }
}
