import Glibc
import Linux
import Testing
import Varlink

/// Docker, Podman and tunnels, as they are packaged, inside machines: they want of a machine what a host gives them.
@Suite("Containers inside machines", .serialized)
struct NestedContainersTests {
  /// Makes an image of the static busybox, runs it, builds another one from an archive, publishes a port of it, and
  /// lets it talk with the world. Prints a line for each thing that worked.
  private static let script = #"""
    set -eu
    engine=$1 outside=$2
    work=/root/$engine; mkdir -p $work/base/bin $work/context; cd $work
    cp /bin/busybox base/bin; for name in sh httpd wget cat echo ip sha256sum head; do ln -s busybox base/bin/$name; done
    # The kernel passes on no pids controller where the host's group has none, and Podman asks for a limit by itself.
    options=; [ $engine = docker ] || grep -q pids /sys/fs/cgroup/cgroup.controllers || options=--pids-limit=0
    # As on any host where both are: Docker has all forwarding dropped that is not its own.
    [ $engine = docker ] || iptables -P FORWARD ACCEPT
    tar -C base -c . | $engine import - localhost/base:1 >/dev/null
    echo storage $($engine info -f "$3")
    echo address $($engine run --rm $options localhost/base:1 /bin/ip -4 -o addr show eth0 | grep -o 'inet [0-9.]*')
    echo page >context/page
    printf '%s\n' 'FROM localhost/base:1' 'COPY page /www/page' 'RUN /bin/sha256sum /www/page >/www/sum' \
      'CMD ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]' >context/Dockerfile
    tar -C context -c . >context.tar
    $engine build -q -t web - <context.tar >/dev/null 2>build.log || { cat build.log; exit 1; }
    $engine run -d --name web1 --stop-timeout 1 $options -p 8080:80 web >/dev/null
    for url in http://127.0.0.1:8080/page http://10.0.2.100:8080/page http://127.0.0.1:8080/sum; do
      # Its server comes up when it comes up.
      curl -sf --retry 30 --retry-delay 1 --retry-all-errors -m 5 $url >got
      case $url in *sum) grep -q ^$(sha256sum <context/page | cut -c1-64) got ;; *) cmp context/page got ;; esac
    done
    echo published
    $engine exec web1 /bin/wget -q -T 10 -O /dev/null http://$outside/1000000
    [ "$($engine exec web1 /bin/wget -q -T 60 -O - http://$outside/20000000 | sha256sum | cut -c1-64)" = \
      "$(curl -sf -m 20 http://$outside/20000000/digest)" ]
    echo outward
    $engine rm -f web1 >/dev/null
    """#

  private static let unlayered = ["-s", "Unlayered=/var/lib/docker", "-s", "Unlayered=/var/lib/containers"]

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["slirp4netns", "pasta"])
  func dockerAndPodmanRunBuildAndPublish(_ forwarder: String) throws {
    try withLab("containers", "nest") { lab in
      let name = lab.sandbox.name("c")
      // Once with connections handed off: those of containers, and those to published ports, are not to be.
      let handOff = "HandOff=\(forwarder == "pasta" ? "yes" : "no")"
      try lab.hengectl(["create", "-s", "Forwarder=\(forwarder)", "-s", handOff] + Self.unlayered + ["nest", name])
      try lab.succeed("start", name)
      let guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-active", "docker.service") == "active")
      var table = ["", "inside a machine behind \(forwarder): engine, storage, what it did, seconds"]
      for (engine, storage, format) in [
        ("docker", "overlay2", "{{.Driver}}"), ("podman", "overlay", "{{.Store.GraphDriverName}}"),
      ] {
        let outcome = try inside(lab, name, Self.script, engine, NetworkLab.outside4, format, deadline: 240)
        let lines = outcome.output.split(separator: "\n").map(String.init)
        #expect(outcome.code == 0, "\(engine): \(outcome)")
        #expect(lines.first == "storage \(storage)", "\(lines)")
        #expect(lines.dropFirst().first?.hasPrefix("address inet ") == true, "\(lines)")
        #expect(lines.suffix(2) == ["published", "outward"], "\(engine): \(outcome)")
        table.append(
          "  \(engine)  \(storage)  \(lines.dropFirst().joined(separator: ", "))  \(rounded(outcome.seconds))")
      }
      // A container that stays is there again with the machine, and reached from outside through the machine's port.
      let stays = try inside(
        lab, name,
        """
        docker run -d --restart=always --stop-timeout 1 --name stays -p 8081:80 web && sync
        curl -sf --retry 30 --retry-delay 1 --retry-all-errors -m 5 http://127.0.0.1:8081/page
        """)
      #expect(stays.text.hasSuffix("page"), "\(stays)")
      try lab.succeed("poweroff", name)
      try lab.succeed("start", "-s", "Port=8081:8081", name)
      let back = try lab.time(until: 60) {
        try lab.outside("curl", "-sf", "-m", "5", "http://\(NetworkLab.host4):8081/page").text == "page"
      }
      #expect(back != nil, "the container did not come back with the machine")
      #expect(try inside(lab, name, "docker info -f '{{.Driver}}'").text == "overlay2")
      print(
        (table + ["  after a restart: the container is back, published to the world outside"]).joined(separator: "\n"))
    }
  }

  /// With the spec of a machine that knows nothing of containers it works as well, only with copies in place of layers.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func withLayersBelowDockerMakesCopies() throws {
    try withLab("containers-vfs", "nest") { lab in
      let name = lab.sandbox.name("v")
      try lab.succeed("create", "nest", name)
      try lab.succeed("start", name)
      let outcome = try inside(
        lab, name, Self.script, "docker", NetworkLab.outside4, "{{.Driver}}", deadline: 240)
      #expect(outcome.code == 0 && outcome.text.hasSuffix("published\noutward"), "\(outcome)")
      // What it wrote is taken out of the layers only where nothing of the image's would be hidden.
      try lab.succeed("poweroff", name)
      let refused = try lab.hengectl(["start", "-s", "Unlayered=/etc", name])
      #expect(
        refused.code != 0 && refused.errors.contains("/etc") && refused.errors.contains("files there"), "\(refused)")
      try lab.succeed("start", "-s", "Unlayered=/var/lib/docker", name)
      #expect(try inside(lab, name, "docker images -q web | wc -l; docker info -f '{{.Driver}}'").text != "", "\(name)")
    }
  }

  /// OpenVPN with a key that both know, one machine to the other, by a published port and a named port of the host.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["yes", "no"])
  func aTunnelLeadsFromOneMachineToTheOther(_ handOff: String) throws {
    try withLab("tunnel", "nest") { lab in
      let (server, client) = (lab.sandbox.name("vs"), lab.sandbox.name("vc"))
      for name in [server, client] { try lab.succeed("create", "nest", name) }
      try lab.succeed("start", "-s", "Port=udp:127.0.0.1:1194:1194", server)
      try lab.succeed("start", "-s", "HostPort=udp:1194", "-s", "Bind=/dev/fuse", "-s", "HandOff=\(handOff)", client)
      for name in [server, client] {
        let node = try inside(lab, name, "stat -c '%a %t:%T %U' /dev/net/tun")
        #expect(node.text == "666 a:c8 root", "\(node)")
      }
      let fuse = try inside(lab, client, "stat -c '%a %t:%T' /dev/fuse; : <>/dev/fuse && echo opened")
      #expect(fuse.text == "666 a:e5\nopened", "\(fuse)")
      #expect(try inside(lab, server, "test -e /dev/fuse").code != 0)

      let key = try inside(lab, server, "openvpn --genkey secret /root/key && cat /root/key").output
      let copied = try inside(lab, client, "printf '%s' \"$1\" >/root/key", key)
      #expect(copied.code == 0, "\(copied)")
      let tunnel = """
        systemd-run --quiet --unit tunnel openvpn --dev tun7 --dev-type tun --proto udp --secret /root/key \
          --cipher AES-256-CBC --auth SHA256
        """
      let serving = try inside(
        lab, server,
        "\(tunnel) --ifconfig 10.9.0.1 10.9.0.2 --port 1194 && systemd-run --quiet --unit iperf iperf3 -s")
      #expect(serving.code == 0, "\(serving)")
      let calling = try inside(
        lab, client, "\(tunnel) --ifconfig 10.9.0.2 10.9.0.1 --remote 10.0.2.4 1194 --nobind")
      #expect(calling.code == 0, "\(calling)")
      let through = try lab.time(until: 60) { try inside(lab, client, "busybox ping -c 1 -W 2 10.9.0.1").code == 0 }
      #expect(through != nil)
      var table = ["", "OpenVPN over /dev/net/tun between two machines, HandOff=\(handOff), iperf3 through it"]
      for (direction, option) in [("up", ""), ("down", "-R")] {
        let outcome = try inside(lab, client, "iperf3 -c 10.9.0.1 -t 3 \(option) -J", deadline: 60)
        let report = try outcome.json()
        let rate = report["end"]?["sum_received"]?["bits_per_second"]?.doubleValue ?? 0
        #expect(rate > 1_000_000, "\(outcome)")
        table.append("  \(direction)  \(Int(rate / 1_000_000)) Mbit/s")
      }
      print(table.joined(separator: "\n"))
    }
  }

  private func inside(
    _ lab: NetworkLab, _ name: String, _ script: String, _ arguments: String..., deadline: Double = 90
  ) throws -> Outcome {
    // As a service of the machine's: who just joined it is in none of the control groups that engines look for.
    try lab.hengectl(["exec", name, "--", "sh", "-c", script, "sh"] + arguments, deadline: deadline)
  }
}
