import Glibc
import Linux
import Testing
import Varlink

/// `Mode=sockets`: machines without a way for packets, whose connections the host makes. What is to be seen runs as a
/// service of the machine's: a process that only joined it is not watched.
@Suite("Sockets and no packets", .serialized)
struct SocketNetworkTests {
  private static let mode = "Mode=sockets"
  private let four = NetworkLab.outside4
  private let six = NetworkLab.outside6

  /// A script as a service of the machine's.
  private func inside(
    _ lab: NetworkLab, _ name: String, _ script: String, _ words: String..., deadline: Double = 60
  ) throws -> Outcome {
    try lab.sandbox.hengectl(["exec", name, "--", "bash", "-c", script, "bash"] + words, deadline: deadline)
  }

  /// Which of these, each an address and a port, take a connection from a service of the machine's.
  private func hits(_ lab: NetworkLab, _ name: String, _ places: [(String, Int)]) throws -> [String] {
    let scan = """
      for place; do
        (timeout 3 bash -c 'exec 3<>/dev/tcp/${0%/*}/${0##*/}' "$place" 2>/dev/null && echo "$place") &
      done; wait
      """
    let outcome = try lab.sandbox.hengectl(
      ["exec", name, "--", "bash", "-c", scan, "bash"] + places.map { "\($0.0)/\($0.1)" }, deadline: 60)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text.split(separator: "\n").map(String.init).sorted()
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bookworm", "trixie", "forky"])
  func aStockMachineConnectsAndHasNoPackets(_ suite: String) throws {
    try withLab("sockets-\(suite)", suite) { lab in
      let name = lab.sandbox.name("s")
      try lab.succeed("create", "-s", Self.mode, suite, name)
      let before = lab.sandbox.snapshot()
      try lab.succeed("start", "-s", "Port=8080:80", "-s", "Port=udp:5007:7", name)
      var guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      #expect(try guest.succeed("stat", "-c", "%F", "/etc/resolv.conf") == "regular file")
      #expect(try lab.client(guest, "ip", "-o", "link").text.split(separator: "\n").count == 1)
      #expect(try lab.client(guest, "ip", "route").text == "")
      try checkTraffic(lab, name)
      try checkErrors(lab, name)
      try checkPorts(lab, guest, name)

      try lab.succeed("reboot", name)
      guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      try checkTraffic(lab, name)
      let state = try lab.network(of: name)
      #expect((state["handOff"]?["handedOver"]?.intValue ?? 0) >= 3, "\(state.compact)")
      let text = try lab.succeed("status", name)
      #expect(text.contains("sockets (no packets") && text.contains("handed over"), "\(text)")
      try lab.succeed("poweroff", name)
      // The folder that all running machines share stays, and so does the test's own server in the machine's network.
      let left = lab.sandbox.difference(from: before).filter {
        $0 != "+ file \(lab.sandbox.runtime)/machines" && !$0.contains("(python3)")
      }
      #expect(left == [])
    }
  }

  private func checkTraffic(_ lab: NetworkLab, _ name: String) throws {
    #expect(try inside(lab, name, "getent ahosts some.name.test").text.contains(four))
    #expect(try inside(lab, name, "getent ahostsv6 some.name.test").text.contains(six))
    let script = """
      get() { exec 3<>/dev/tcp/$1/80; printf 'GET /%s HTTP/1.1\\r\\n\\r\\n' "$2" >&3
        while read -r line <&3 && [ "$line" != $'\\r' ]; do :; done; }
      get some.name.test 104857600; sum=$(head -c 104857600 <&3 | sha256sum); exec 3>&-
      get $1 104857600/digest; [ "$(head -c 64 <&3)" = "${sum%% *}" ] && echo down; exec 3>&-
      get $2 1000000; [ "$(head -c 1000000 <&3 | wc -c)" = 1000000 ] && echo six
      """
    let outcome = try inside(lab, name, script, four, six, deadline: 120)
    #expect(outcome.text == "down\nsix", "\(outcome)")
  }

  /// At once, and not when somebody has lost patience.
  private func checkErrors(_ lab: NetworkLab, _ name: String) throws {
    for script in [
      "exec 3<>/dev/udp/\(four)/7", "exec 3<>/dev/udp/\(six)/7", "exec 3<>/dev/tcp/\(four)/4444",
      "command -v ping || { echo unreachable >&2; exit 2; }; ping -c 1 -W 20 \(four)",
    ] {
      let start = now()
      let outcome = try inside(lab, name, "timeout 10 bash -c '\(script)'")
      #expect(outcome.code != 0 && outcome.code != 124, "\(script): \(outcome)")
      #expect(outcome.errors.contains("unreachable") || outcome.errors.contains("refused"), "\(script): \(outcome)")
      #expect(Double(now() - start) / 1e9 < 3, "\(script)")
    }
  }

  private func checkPorts(_ lab: NetworkLab, _ guest: Guest, _ name: String) throws {
    try lab.serve(in: guest.leader, ["10.0.2.100", "fd00::100"])
    for url in ["http://\(NetworkLab.host4):8080/1000", "http://[\(NetworkLab.host6)]:8080/1000"] {
      #expect(try lab.outside("curl", "-sf", "-m", "5", "-o", "/dev/null", url).code == 0, "\(url)")
    }
    let echo = "exec 3<>/dev/udp/$0/5007; printf hello >&3; read -r -t 5 -N 5 answer <&3; echo $answer"
    #expect(try lab.outside("bash", "-c", echo, NetworkLab.host4).text == "hello")
    try lab.succeed("port", name, "add", "8090:80")
    #expect(try lab.outside("curl", "-sf", "-m", "5", "-o", "/dev/null", "http://\(NetworkLab.host4):8090/1").code == 0)
    // Its own address is inside.
    #expect(try hits(lab, name, [("10.0.2.100", 80)]) == ["10.0.2.100/80"])
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func nothingOfTheHostIsReachableThatIsNotNamed() throws {
    try withLab("sockets-scan") { lab in
      let name = lab.sandbox.name("s")
      let (host4, host6) = (NetworkLab.host4, NetworkLab.host6)
      try lab.serveOnHost(["127.0.0.1", "::1", "127.0.0.1/5432", "::1/5433"])
      try lab.serveOnHost([host4, host6, "\(host4)/8081"])
      try lab.listenOnHostAbstractly("henge-test")
      try lab.succeed("create", "-s", Self.mode, "-s", "HostPort=5432", "trixie", name)
      try lab.succeed("start", name)
      #expect(try lab.network(of: name)["guarded"]?.boolValue == true)
      let guest = try lab.sandbox.guest(name)
      // The machine's root may take its loopback's addresses away: then they are no more local than any other.
      try lab.client(guest, "sh", "-c", "ip addr del 127.0.0.1/8 dev lo; ip -6 addr del ::1/128 dev lo")
      let named = [("10.0.2.4", 5432), (four, 80)]
      var places = named + [("10.0.2.4", 80), ("10.0.2.4", 5433)]
      for address in [
        host4, host6, "127.0.0.1", "127.0.0.53", "0.0.0.0", NetworkLab.metadata, "::1", "::", "::ffff:\(host4)",
        "::ffff:127.0.0.1", "fd00:ec2::254", "fe80::1",
      ] { places += [80, 5432, 8081].map { (address, $0) } }
      #expect(try hits(lab, name, places) == named.map { "\($0.0)/\($0.1)" }.sorted())
      #expect(try lab.hitsByDatagrams(guest, [host4, host6, "127.0.0.1", "::1", four, "10.0.2.3"]) == [])
      #expect(try !lab.reachesAbstractly("henge-test", from: guest.leader))
      #expect(try lab.reachesAbstractly("henge-test", from: lab.hostProcess))
    }
  }

  /// What carries the traffic is started again; a killed supervisor leaves nothing.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whoIsKilledIsReplaced() throws {
    try withLab("sockets-kill") { lab in
      let name = lab.sandbox.name("k")
      try lab.succeed("create", "-s", Self.mode, "trixie", name)
      try lab.succeed("start", "-s", "Port=8080:80", name)
      for part in ["handOff", "hostRelay"] {
        kill(try lab.process(part, of: name), SIGKILL)
        let back = try lab.time(until: 10) {
          try inside(lab, name, "exec 3<>/dev/tcp/some.name.test/80 && echo there").text == "there"
        }
        #expect((back ?? 99) < 2, "\(part) back after \(back ?? -1) s")
        #expect(try lab.network(of: name)[part]?["restarts"]?.intValue == 1, "\(part)")
      }
      let supervisor = try lab.sandbox.hengectl("status", "--json", name).json()["supervisor"]?.intValue ?? 0
      kill(Int32(supervisor), SIGKILL)
      try lab.succeed("start", "-s", "Port=8080:80", name)
      #expect(try hits(lab, name, [(four, 80)]) == ["\(four)/80"])
    }
  }

  /// There are no packets to fall back to.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func withoutABrokerTheStartIsRefused() throws {
    try withLab("sockets-refused") { lab in
      let name = lab.sandbox.name("r")
      try lab.succeed("create", "-s", Self.mode, "trixie", name)
      let off = try lab.hengectl(["start", "-s", "HandOff=no", name])
      #expect(off.code == 2 && off.errors.contains("HandOff= cannot stand beside Mode=sockets"), "\(off)")
      let program = try NetworkProgram.made("handoff")
      for (wrapper, word) in [("with-listener", "watched already"), ("without-notices", "messages are too long")] {
        let outcome = try lab.hengectl(["start", name], before: "set -- \(program) \(wrapper) \"$@\";")
        #expect(outcome.code == 5 && outcome.errors.contains(word), "\(wrapper): \(outcome)")
        #expect(names(in: "\(lab.sandbox.runtime)/machines") == [], "\(wrapper)")
      }
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func anOrdinaryUsersMachineConnectsAsWell() throws {
    try withUsers("sockets-user", ids: [131072]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("create", "-s", Self.mode, "trixie", "sockets")
      try user.succeed("start", "sockets")
      #expect(try user.succeed("exec", "sockets", "--", "systemctl", "is-system-running") == "running")
      let state = try user.hengectl("status", "--json", "sockets").json()["networkState"] ?? .null
      #expect(state["mode"]?.stringValue == "sockets" && state["handOff"]?["passing"]?.boolValue == false)
      // Without going anywhere: that the host has decided is what is to be seen.
      let outcome = try user.hengectl("exec", "sockets", "--", "bash", "-c", "exec 3<>/dev/tcp/169.254.169.254/80")
      #expect(outcome.code != 0 && outcome.errors.contains("unreachable"), "\(outcome)")
      let after = try user.hengectl("status", "--json", "sockets").json()["networkState"]?["handOff"]
      #expect((after?["fallenBack"]?["closed"]?.intValue ?? 0) >= 1, "\(after?.compact ?? "")")
      try user.succeed("poweroff", "sockets")
      #expect(user.processes.isEmpty)
    }
  }
}
