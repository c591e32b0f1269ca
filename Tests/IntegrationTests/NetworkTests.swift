import Glibc
import Linux
import Testing
import Varlink

/// A suite of Debian's behind a forwarder.
struct NetworkCell: Sendable, CustomStringConvertible {
  var suite: String
  var forwarder: String
  var description: String { "\(suite) behind \(forwarder)" }

  static let all = ["bookworm", "trixie", "forky"].flatMap { suite in
    ["slirp4netns", "pasta"].map { NetworkCell(suite: suite, forwarder: $0) }
  }
}

/// Machines on the net, as real clients and servers see them.
@Suite("Network", .serialized)
struct NetworkTests {
  /// What a stock machine can ask with: bash, and what of the C library.
  private static let script = """
    set -e
    o4=\(NetworkLab.outside4) o6=\(NetworkLab.outside6) size=$1
    get() { exec 3<>/dev/tcp/$1/80; printf 'GET /%s HTTP/1.1\\r\\n\\r\\n' "$2" >&3
      while read -r line <&3 && [ "$line" != $'\\r' ]; do :; done; }
    get $o4 $size; down=$(head -c $size <&3 | sha256sum); exec 3>&-
    get $o4 $size/digest; [ "$(head -c 64 <&3)" = "${down%% *}" ]; exec 3>&-; echo down
    get $o6 1000000; [ "$(head -c 1000000 <&3 | wc -c)" = 1000000 ]; exec 3>&-; echo six
    head -c $size /dev/urandom >/tmp/up; sum=$(sha256sum </tmp/up)
    put() { exec 3<>/dev/tcp/$o4/80
      printf 'PUT /x HTTP/1.1\\r\\nContent-Length: %s\\r\\n\\r\\n' $size >&3 && cat /tmp/up >&3 || return 1
      while read -r line <&3 && [ "$line" != $'\\r' ]; do :; done; [ "$(head -c 64 <&3)" = "${sum%% *}" ]; }
    # On a busy host pasta, whose uploads stall, may give one up.
    for try in 1 2 3; do if put; then echo up; break; fi; exec 3>&-; done
    for to in $o4 $o6; do
      exec 3<>/dev/udp/$to/7; printf hello >&3; read -r -t 5 -N 5 answer <&3; [ "$answer" = hello ]; exec 3>&-
    done; echo udp
    """

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: NetworkCell.all)
  func aStockMachineIsOnTheNet(_ cell: NetworkCell) throws {
    try withLab("net-\(cell.suite)", cell.suite) { lab in
      let name = lab.sandbox.name("n")
      try lab.succeed("create", "-s", "Forwarder=\(cell.forwarder)", cell.suite, name)
      let before = lab.sandbox.snapshot()
      try lab.succeed("start", name)
      let guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      #expect(try guest.succeed("stat", "-c", "%F", "/etc/resolv.conf") == "regular file")
      #expect(try guest.shell("getent ahosts some.name.test").text.contains(NetworkLab.outside4), "\(cell)")
      #expect(try guest.shell("getent ahostsv6 some.name.test").text.contains(NetworkLab.outside6), "\(cell)")
      let outcome = try guest.run("bash", "-c", Self.script, "bash", "104857600", deadline: 180)
      #expect(outcome.text == "down\nsix\nup\nudp", "\(cell): \(outcome)")
      #expect(try lab.client(guest, "ping", "-c", "1", "-W", "5", NetworkLab.outside4).code == 0, "\(cell)")
      try checkConnections(lab, guest)
      try checkConfinement(lab, name)
      try checkRestart(lab, guest, name)

      let counted = try lab.network(of: name)
      #expect((counted["bytesReceived"]?.intValue ?? 0) > 104_857_600 && (counted["bytesSent"]?.intValue ?? 0) > 0)
      try lab.succeed("terminate", name)
      // The folder that all running machines share stays.
      let left = lab.sandbox.difference(from: before).filter { $0 != "+ file \(lab.sandbox.runtime)/machines" }
      #expect(left == [])
    }
  }

  private func checkConnections(_ lab: NetworkLab, _ guest: Guest) throws {
    let many = """
      import asyncio
      async def one(host):
          r, w = await asyncio.open_connection(host, 7)
          w.write(b'x' * 100); assert await r.readexactly(100) == b'x' * 100
          return w
      async def main():
          return await asyncio.gather(*[one(h) for h in ['\(NetworkLab.outside4)'] * 300 + ['\(NetworkLab.outside6)'] * 250])
      print(len(asyncio.run(main())))
      """
    let outcome = try lab.client(guest, "sh", "-c", "ulimit -n 4096; python3 -c \"$1\"", "sh", many, deadline: 90)
    #expect(outcome.text == "550", "\(outcome)")
  }

  /// As the host's kernel shows it, and not the forwarder.
  private func checkConfinement(_ lab: NetworkLab, _ name: String) throws {
    let process = try lab.process(nil, of: name)
    #expect(Host.namespace("\(process)", "user") != Host.namespace("self", "user"))
    #expect(Host.namespace("\(process)", "mnt") != Host.namespace("self", "mnt"))
    #expect(Host.status(process, "Seccomp") == "2")
    #expect(Host.status(process, "NoNewPrivs") == "1")
    #expect(Host.cgroup(process)?.hasSuffix("/network") == true)
    for kind in ["CapEff", "CapPrm"] {
      // In a user namespace that is not the host's, binding low ports and, for pasta, entering the machine's network
      // namespace again are all that is left.
      let left = UInt64(Host.status(process, kind) ?? "", radix: 16) ?? .max
      #expect(left & ~(1 << 10 | 1 << 21) == 0, "\(kind) \(left)")
    }
  }

  private func checkRestart(_ lab: NetworkLab, _ guest: Guest, _ name: String) throws {
    let process = try lab.process(nil, of: name)
    kill(process, SIGKILL)
    let url = "http://\(NetworkLab.outside4)/10"
    let back = try lab.time(until: 10) {
      try lab.client(guest, "curl", "-sf", "-m", "1", "-o", "/dev/null", url).code == 0
    }
    #expect((back ?? 99) < 2, "back after \(back ?? -1) s")
    let state = try lab.network(of: name)
    #expect(state["restarts"]?.intValue == 1 && state["lastEnd"]?.stringValue?.contains("signal 9") == true)
    #expect(try lab.process(nil, of: name) != process)
    #expect(read("\(lab.sandbox.runtime)/machines/\(name)/supervisor.log")?.contains("signal 9") == true)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["slirp4netns", "pasta"])
  func nothingOfTheHostIsReachableThatIsNotNamed(_ forwarder: String) throws {
    try withLab("net-scan") { lab in
      let name = lab.sandbox.name("s")
      let (host4, host6) = (NetworkLab.host4, NetworkLab.host6)
      try lab.serveOnHost(["127.0.0.1", "::1", "127.0.0.1/5432", "::1/5433"])
      try lab.serveOnHost([host4, host6, "\(host4)/8081"])
      try lab.succeed(
        "start", "-s", "Forwarder=\(forwarder)", "-s", "HostPort=5432", try create(lab, name), deadline: 60)
      let guest = try lab.sandbox.guest(name)
      #expect(try lab.network(of: name)["guarded"]?.boolValue == true)
      let fetch = ["curl", "-s", "-m", "2"]
      func reaches(_ url: String) throws -> Bool {
        try run(["nsenter", "-t", "\(guest.leader)", "-n"] + fetch + [url]).text.isEmpty == false
      }
      // What is named, and that the scan would see what there is to be seen.
      #expect(try reaches("http://10.0.2.4:5432/"))
      #expect(try reaches("http://\(NetworkLab.outside4)/10"))
      // The machine's root may lead what it likes into its tap device, its loopback's addresses too.
      try lab.client(
        guest, "sh", "-c",
        """
        echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
        ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0
        ip -6 addr del ::1/128 dev lo; ip -6 route add ::1/128 via fd00::2 dev eth0
        """)
      var urls: [String] = ["http://10.0.2.4:80/10", "http://10.0.2.4:5433/10"]
      for address in [
        "10.0.2.2", "10.0.2.3", host4, "127.0.0.1", "127.0.0.53", "0.0.0.0", NetworkLab.metadata, "[fd00::2]",
        "[fd00::3]",
        "[\(host6)]", "[::1]", "[::ffff:\(host4)]", "[::ffff:127.0.0.1]",
      ] { urls += ["80", "5432", "8081"].map { "http://\(address):\($0)/10" } }
      // All at once: most of them are not answered at all.
      let scan = "for url; do (curl -s -m 3 -o /dev/null \"$url\" && echo \"$url\") & done; wait"
      let hits = try run(
        ["nsenter", "-t", "\(guest.leader)", "-n", "sh", "-c", scan, "sh", "http://\(NetworkLab.outside4)/10"] + urls)
      #expect(hits.text == "http://\(NetworkLab.outside4)/10", "\(hits)")
      // Datagrams: an echo on the host that the machine must not hear.
      let echo = """
        import socket, sys
        for host in sys.argv[1:]:
            s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
            try: s.sendto(b'hello', (host, 7)); print(host, s.recv(100))
            except OSError: pass
        """
      let heard = try lab.client(
        guest, "python3", "-c", echo, "10.0.2.2", host4, "127.0.0.1", "fd00::2", host6, "::1", NetworkLab.metadata)
      #expect(heard.text == "", "\(heard)")
      #expect(try lab.client(guest, "python3", "-c", echo, NetworkLab.outside4).text.contains("hello"))
    }
  }

  /// On the host's own network, as an operator does it; the machine's sources are those that the image was made from.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aptReachesTheMirrorOfTheImage() throws {
    try withSandbox("net-apt") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("a")
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      let outcome = try sandbox.guest(name).run("apt-get", "--error-on=any", "update", deadline: 180)
      #expect(outcome.code == 0, "\(outcome)")
      try sandbox.succeed("terminate", name)
    }
  }

  private func create(_ lab: NetworkLab, _ name: String) throws -> String {
    try lab.succeed("create", "trixie", name)
    return name
  }

  /// An image whose networkd is on: without an interface to manage, `systemd-networkd-wait-online` waits for two minutes.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aNetworkdFindsTheInterfaceAsItStands() throws {
    try withLab("net-networkd") { lab in
      let name = lab.sandbox.name("d")
      try lab.succeed("start", try create(lab, name))
      let first = try lab.sandbox.guest(name)
      try first.succeed("systemctl", "enable", "systemd-networkd", "systemd-networkd-wait-online")
      try first.succeed("systemctl", "add-wants", "multi-user.target", "network-online.target")
      try lab.succeed("poweroff", name)
      let start = try lab.hengectl(["start", name])
      #expect(start.code == 0 && start.seconds < 30, "\(start)")
      let guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-active", "network-online.target") == "active")
      #expect(try guest.shell("networkctl --no-legend list eth0").text.contains("configured"))
      let addresses = try guest.succeed("ip", "-brief", "address", "show", "eth0")
      #expect(addresses.contains("10.0.2.100/24") && addresses.contains("fd00::100/64"), "\(addresses)")
      #expect(try lab.client(guest, "curl", "-sf", "-m", "5", "http://\(NetworkLab.outside4)/10").code == 0)
      #expect(try lab.client(guest, "curl", "-sf", "-m", "5", "http://[\(NetworkLab.outside6)]/10").code == 0)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func withAKilledSupervisorTheForwarderEnds() throws {
    try withLab("net-kill") { lab in
      let name = lab.sandbox.name("k")
      try lab.succeed("start", "-s", "Port=8080:80", try create(lab, name))
      let processes = [try lab.process(nil, of: name), try lab.process("relay", of: name)]
      let held = try processes.map { try Pidfd(opening: $0) }
      let supervisor = try lab.sandbox.hengectl("status", "--json", name).json()["supervisor"]?.intValue ?? 0
      kill(Int32(supervisor), SIGKILL)
      for process in held {
        var poll = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
        #expect(Glibc.poll(&poll, 1, 5000) == 1)
      }
      // And the machine can be started again, with the same port.
      try lab.succeed("start", "-s", "Port=8080:80", name)
    }
  }
}
