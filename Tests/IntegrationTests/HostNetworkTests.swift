import Glibc
import Linux
import Testing
import Varlink

/// `Mode=host-insecure`: machines in the network namespace of the host, which a lab plays here.
@Suite("The host's network", .serialized)
struct HostNetworkTests {
  private static let mode = "Mode=host-insecure"

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bookworm", "trixie", "forky"])
  func aStockMachineRunsInTheHostsNetwork(_ suite: String) throws {
    try withLab("hostnet-\(suite)", suite) { lab in
      let name = lab.sandbox.name("i")
      try lab.serveOnHost(["127.0.0.1", "::1"])
      try lab.succeed("create", "-s", Self.mode, suite, name)
      let before = lab.sandbox.snapshot()
      let started = try lab.hengectl(["start", name])
      #expect(started.succeeded && started.errors.contains("loopback and abstract sockets"), "\(started)")
      let guest = try lab.sandbox.guest(name)
      #expect(Host.namespace("\(guest.leader)", "net") == Host.namespace("\(lab.hostProcess)", "net"))
      #expect(Host.namespace("\(guest.leader)", "user") != Host.namespace("self", "user"))
      #expect(try guest.succeed("systemctl", "is-system-running") == "running")
      #expect(try guest.succeed("systemctl", "list-units", "--failed", "--no-legend") == "")
      // Outside, by name; and what is documented as open: the host's loopback.
      #expect(try guest.shell("getent ahosts some.name.test").text.contains(NetworkLab.outside4))
      let fetch = "exec 3<>/dev/tcp/$0/80; printf 'GET /5 HTTP/1.1\\r\\n\\r\\n' >&3; read -r line <&3; echo \"$line\""
      for address in [NetworkLab.outside4, NetworkLab.outside6, "127.0.0.1"] {
        let outcome = try guest.run("bash", "-c", fetch, address)
        #expect(outcome.text.hasPrefix("HTTP/1.1 200"), "\(address): \(outcome)")
      }
      try checkRights(guest)

      let text = try lab.succeed("status", name)
      #expect(text.contains("host-insecure") && text.contains("open to the machine"), "\(text)")
      let state = try lab.network(of: name)
      #expect(state["mode"]?.stringValue == "host-insecure")
      #expect(state["exposed"]?.arrayValue?.contains("abstract-sockets") == true)
      let port = try lab.hengectl(["port", name, "add", "8080:80"])
      #expect(port.code == 2 && port.errors.contains("the host's own ports"), "\(port)")

      try lab.succeed("reboot", name)
      let again = try lab.sandbox.guest(name)
      #expect(Host.namespace("\(again.leader)", "net") == Host.namespace("\(lab.hostProcess)", "net"))
      #expect(try lab.succeed("exec", name, "--", "systemctl", "is-system-running") == "running")
      try lab.succeed("terminate", name)
      let left = lab.sandbox.difference(from: before).filter { $0 != "+ file \(lab.sandbox.runtime)/machines" }
      #expect(left == [])
    }
  }

  /// What its root may not do there, though it is root of its own user namespace.
  private func checkRights(_ guest: Guest) throws {
    for attempt in [
      "mount -o remount,rw /sys", "mount -o bind,remount,rw /sys", "mount -t sysfs none /mnt",
      "ip link set lo down", "ip addr add 192.0.2.77/24 dev lo", "echo 1 >/proc/sys/net/ipv4/ip_forward",
      "echo x >/sys/kernel/uevent_helper", "umount /sys",
    ] {
      let outcome = try guest.shell("\(attempt) 2>&1")
      #expect(outcome.code != 0, "\(attempt): \(outcome)")
    }
    #expect(try guest.succeed("ip", "-o", "link").contains("up0"))
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatItCannotGiveIsRefusedByItsKey() throws {
    try withLab("hostnet-refused") { lab in
      let name = lab.sandbox.name("r")
      try lab.succeed("create", "trixie", name)
      for (setting, key) in [("Port=80:80", "Port="), ("HostPort=5432", "HostPort="), ("HandOff=yes", "HandOff=")] {
        let outcome = try lab.hengectl(["start", "-s", Self.mode, "-s", setting, name])
        #expect(
          outcome.code == 2 && outcome.errors.contains("\(key) cannot stand beside Mode=host-insecure"), "\(outcome)")
        #expect(names(in: "\(lab.sandbox.runtime)/machines") == [], "\(setting)")
      }
    }
  }

  /// Whose own namespace does not own the host's network: it is not entered anew, but never left.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func anOrdinaryUsersMachineSharesItAsWell() throws {
    try withUsers("hostnet-user", ids: [131072]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("create", "-s", Self.mode, "trixie", "shared")
      try user.succeed("start", "shared")
      let guest = try user.guest("shared")
      #expect(Host.namespace("\(guest.leader)", "net") == Host.namespace("self", "net"))
      #expect(try user.succeed("exec", "shared", "--", "systemctl", "is-system-running") == "running")
      #expect(
        try user.succeed("exec", "shared", "--", "sh", "-c", "mount -o remount,rw /sys 2>&1 || echo refused")
          .hasSuffix("refused"))
      try user.succeed("reboot", "shared")
      try user.succeed("poweroff", "shared")
      #expect(user.processes.isEmpty)
    }
  }
}
