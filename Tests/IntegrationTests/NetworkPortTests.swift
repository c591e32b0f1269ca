import Glibc
import Linux
import Testing
import Varlink

/// Ports of the host that lead into machines, and those that may not be had.
@Suite("Published ports", .serialized)
struct NetworkPortTests {
  private let host4 = NetworkLab.host4
  private let host6 = NetworkLab.host6

  private func fetches(_ lab: NetworkLab, _ url: String) throws -> Bool {
    try lab.outside("curl", "-sf", "-m", "3", "-o", "/dev/null", url).code == 0
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["slirp4netns", "pasta"])
  func portsLeadIntoTheMachine(_ forwarder: String) throws {
    try withLab("ports") { lab in
      let name = lab.sandbox.name("p")
      try lab.succeed("create", "trixie", name)
      try lab.succeed(
        "start", "-s", "Forwarder=\(forwarder)", "-s", "Port=8080:80", "-s", "Port=udp:5007:7", "-s",
        "Port=\(host4):9000-9002:79-81", "-s", "Port=[\(host6)]:9100:80", name)
      var guest = try lab.sandbox.guest(name)
      try lab.serve(in: guest.leader, ["10.0.2.100", "fd00::100"])
      for url in ["\(host4):8080", "[\(host6)]:8080", "\(host4):9001", "[\(host6)]:9100"] {
        #expect(try fetches(lab, "http://\(url)/1000"), "\(url)")
      }
      // Bound to one address only, or to a port where nobody is.
      for url in ["[\(host6)]:9001", "\(host4):9100", "\(host4):9000"] {
        #expect(try !fetches(lab, "http://\(url)/1000"), "\(url)")
      }
      try checkContents(lab)
      try checkDatagrams(lab)
      try checkClients(lab)
      try checkLive(lab, name)

      // A relay that is gone is there again.
      kill(try lab.process("relay", of: name), SIGKILL)
      let back = try lab.time(until: 10) { try fetches(lab, "http://\(host4):8080/10") }
      #expect((back ?? 99) < 2, "back after \(back ?? -1) s")
      #expect(try lab.network(of: name)["relay"]?["restarts"]?.intValue == 1)

      // The port is there while the machine boots anew, and leads into it again.
      try lab.succeed("reboot", name)
      guest = try lab.sandbox.guest(name)
      try lab.serve(in: guest.leader, ["10.0.2.100", "fd00::100"])
      #expect(try fetches(lab, "http://\(host4):8080/10"))

      let relay = try lab.network(of: name)["relay"]
      #expect((relay?["connections"]?.intValue ?? 0) > 500 && (relay?["bytesOut"]?.intValue ?? 0) > 50_000_000)
      try lab.succeed("terminate", name)
      #expect(try !fetches(lab, "http://\(host4):8080/10"))
    }
  }

  private func checkContents(_ lab: NetworkLab) throws {
    let script = """
      set -e; url=http://\(host4):8080
      [ "$(curl -sf -m 60 $url/50000000 | sha256sum | head -c 64)" = "$(curl -sf $url/50000000/digest)" ]
      head -c 50000000 /dev/urandom >$1
      [ "$(curl -sf -m 60 -T $1 $url/x)" = "$(sha256sum <$1 | head -c 64)" ]
      """
    let outcome = try lab.outside("sh", "-c", script, "sh", "\(lab.sandbox.folder)/up", deadline: 120)
    #expect(outcome.code == 0, "\(outcome)")
  }

  private func checkDatagrams(_ lab: NetworkLab) throws {
    let script = """
      import socket, sys
      for host in sys.argv[1:]:
          s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
          for size in (5, 1400, 9000):
              s.sendto(b'x' * size, (host, 5007)); data, peer = s.recvfrom(10000)
              assert len(data) == size and peer[0] == host, (size, peer)
      print('same')
      """
    let outcome = try lab.outside("python3", "-c", script, host4, host6)
    #expect(outcome.text == "same", "\(outcome)")
  }

  /// 500 at once, each with three questions over one connection.
  private func checkClients(_ lab: NetworkLab) throws {
    let script = """
      import asyncio
      async def one():
          r, w = await asyncio.open_connection('\(host4)', 8080)
          for _ in range(3):
              w.write(b'GET /1000 HTTP/1.1\\r\\n\\r\\n')
              await r.readuntil(b'\\r\\n\\r\\n'); await r.readexactly(1000)
          return w
      async def main():
          return await asyncio.gather(*[one() for _ in range(500)])
      print(len(asyncio.run(main())))
      """
    let outcome = try lab.outside("sh", "-c", "ulimit -n 4096; python3 -c \"$1\"", "sh", script, deadline: 90)
    #expect(outcome.text == "500", "\(outcome)")
  }

  private func checkLive(_ lab: NetworkLab, _ name: String) throws {
    #expect(try !fetches(lab, "http://\(host4):8090/10"))
    try lab.succeed("port", name, "add", "8090:80")
    #expect(try fetches(lab, "http://\(host4):8090/10"))
    let listed = try lab.hengectl(["port", name, "list", "--json"]).json().arrayValue ?? []
    #expect(listed.count == 5 && listed.last?["port"]?.stringValue == "tcp:8090:80")
    #expect(try lab.hengectl(["port", name, "add", "8090:81"]).code == 5)
    try lab.succeed("port", name, "remove", "8090:80")
    #expect(try !fetches(lab, "http://\(host4):8090/10"))
    #expect(try lab.hengectl(["port", name, "remove", "8090:80"]).code == 4)
  }

  /// Connections are spread over threads, and all of them are known: they are counted, they end with their publication,
  /// and what they held serves others.
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func connectionsAreSharedAmongThreads() throws {
    try withLab("threads") { lab in
      let name = lab.sandbox.name("t")
      try lab.succeed("create", "trixie", name)
      try lab.succeed("start", "-s", "Port=8007:7", "-s", "Port=8080:80", name)
      try lab.serve(in: try lab.sandbox.guest(name).leader, ["10.0.2.100"])
      #expect(try fetches(lab, "http://\(host4):8080/10"))
      let relay = try lab.process("relay", of: name)
      func threads() -> Int { names(in: "/proc/\(relay)/task").count }
      func isOpen(_ count: Int64) throws -> Bool { try lab.network(of: name)["relay"]?["open"]?.intValue == count }
      // One connection at a time takes one.
      #expect(threads() == 1)

      let holder = """
        import socket, sys
        held = [socket.create_connection(('\(host4)', int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
        answers = 0
        for number, s in enumerate(held):
            s.settimeout(20)
            try:
                s.sendall(b'%08d' % number)
                answers += s.recv(8, socket.MSG_WAITALL) == b'%08d' % number
            except OSError: pass
        print(answers, file=sys.stderr)
        ended = 0
        for s in held:
            try: ended += s.recv(1) == b''
            except ConnectionError: ended += 1
        print(ended)
        """
      let prefix = ["nsenter", "-t", "\(lab.outsideProcess)", "-n", "python3", "-c", holder]
      let held = try RunningProgram(prefix + ["8007", "40"])
      #expect(try lab.time(until: 10) { try isOpen(40) } != nil)
      let processors = sysconf(Int32(_SC_NPROCESSORS_ONLN))
      #expect(threads() == min(4, Int(processors)))
      // Both have their share: each connection is two sockets that an epoll of its own watches.
      let watched = names(in: "/proc/\(relay)/fdinfo").map { descriptor in
        (read("/proc/\(relay)/fdinfo/\(descriptor)") ?? "").split(separator: "\n").count { $0.hasPrefix("tfd:") }
      }
      #expect(watched.count { $0 >= 80 / (2 * threads()) } == threads(), "\(watched.filter { $0 > 0 })")

      try lab.succeed("port", name, "remove", "8007:7")
      let ended = try held.wait(deadline: 15)
      #expect(ended.text == "40" && ended.errors.contains("40"), "\(ended)")
      #expect(try isOpen(0))

      // More than it has descriptors for. Those that find none wait, or are refused; all others are served, and so is
      // whoever comes after that.
      try lab.succeed("port", name, "add", "8007:7")
      let own = names(in: "/proc/\(relay)/fd").count
      // As whom it is: root of a host in a container may not.
      let ids = ["Uid", "Gid"].map { Host.status(relay, $0)?.split(separator: "\t").first ?? "" }
      try runWell([
        "setpriv", "--reuid=\(ids[0])", "--regid=\(ids[1])", "--clear-groups", "prlimit", "--pid", "\(relay)",
        "--nofile=\(own + 40)",
      ])
      let crowd = try RunningProgram(prefix + ["8007", "400"])
      #expect(try lab.time(until: 10) { names(in: "/proc/\(relay)/fd").count >= own + 36 } != nil)
      // One may come before the last of the crowd.
      #expect(try lab.time(until: 10) { try !fetches(lab, "http://\(host4):8080/10") } != nil, "no descriptor is left")
      crowd.signal(SIGKILL)
      _ = try crowd.wait(deadline: 5)
      #expect(try lab.time(until: 5) { try fetches(lab, "http://\(host4):8080/10") } != nil)
      #expect(try lab.time(until: 5) { try isOpen(0) } != nil)
      #expect(try lab.process("relay", of: name) == relay, "the same relay all the time")
      try lab.succeed("terminate", name)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whatCannotBeHadIsRefusedBeforeAnythingRuns() throws {
    try withLab("refused") { lab in
      let name = lab.sandbox.name("r")
      try lab.serveOnHost([host4])
      try lab.succeed("create", "trixie", name)
      let noPorts = "exec setpriv --bounding-set=-net_bind_service --inh-caps=-net_bind_service"
      let hidden = "for f in slirp4netns pasta; do mount --bind /dev/null /usr/bin/$f; done;"
      for (setting, code, word, before) in [
        ("Port=80:80", 5, "tcp:80", ""), ("Port=192.0.2.99:8080:80", 5, "192.0.2.99", ""),
        ("Port=8080-8082:80", 2, "8080-8082:80", ""), ("Port=0:80", 2, "0", ""), ("Port=70000:80", 2, "70000", ""),
        ("Port=443:443", 5, "tcp:443", noPorts), ("Port=9000:80", 5, "slirp4netns", hidden),
        ("Forwarder=pasta", 5, "passt", hidden),
        ("Port=udp:9000:9000:x.socket", 2, "only TCP", ""), ("Port=10000-10999:10000-10999", 5, "512", ""),
      ] as [(String, Int32, String, String)] {
        let prefix = before.hasPrefix("exec ") ? before + " \"$@\";" : before
        let outcome = try lab.hengectl(["start", "-s", setting, name], before: prefix)
        #expect(outcome.code == code && outcome.errors.contains(word), "\(setting): \(outcome)")
        #expect(outcome.errorLines.count == 1, "\(outcome)")
        #expect(names(in: "\(lab.sandbox.runtime)/machines") == [], "\(setting)")
      }
      try lab.succeed("start", name)
    }
  }

  /// The host's own socket, in the hands of the machine's systemd: with the client's address, and no relay between.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bookworm", "trixie", "forky"])
  func aSocketUnitTakesTheHostsSocket(_ suite: String) throws {
    try withLab("units", suite) { lab in
      let name = lab.sandbox.name("u")
      try lab.succeed("create", "-s", "Port=8022:22:who.socket", suite, name)
      try lab.succeed("start", name)
      let script = """
        set -e; cd /etc/systemd/system
        printf '[Socket]\\nListenStream=22\\nAccept=yes\\n[Install]\\nWantedBy=sockets.target\\n' >who.socket
        printf '[Service]\\nExecStart=/bin/sh -c "echo $REMOTE_ADDR"\\nStandardOutput=socket\\n' >who@.service
        systemctl enable who.socket
        """
      let made = try lab.sandbox.guest(name).shell(script)
      #expect(made.code == 0, "\(made)")
      try lab.succeed("reboot", name)
      let guest = try lab.sandbox.guest(name)
      #expect(try guest.succeed("systemctl", "is-active", "who.socket") == "active")
      // Nobody listens in the machine's own network namespace: what is answered there is the host's socket.
      #expect(try !guest.shell("cat /proc/net/tcp /proc/net/tcp6").text.contains(":1F56 "))
      let answer = try lab.outside("bash", "-c", "exec 3<>/dev/tcp/\(host4)/8022; cat <&3", deadline: 20)
      #expect(answer.text.hasSuffix(NetworkLab.outside4), "\(answer)")
      #expect(try lab.network(of: name)["relay"]?["process"] == JSON.null)

      // Who has it can listen, and nothing else: turned around it reaches nobody on the host.
      try lab.serveOnHost(["127.0.0.1"])
      let turned = """
        import ctypes, os, socket, struct, sys
        pid = os.pidfd_open(\(guest.leader))
        libc = ctypes.CDLL(None, use_errno=True)
        for link in os.listdir('/proc/\(guest.leader)/fd'):
            if not os.readlink('/proc/\(guest.leader)/fd/' + link).startswith('socket:'): continue
            number = libc.syscall(438, pid, int(link), 0)
            s = socket.socket(fileno=number)
            if s.family != socket.AF_INET6 or s.getsockname()[1] != 8022: continue
            libc.connect(number, struct.pack('H14x', 0), 16)
            s.settimeout(2)
            try:
                s.connect(('::ffff:127.0.0.1', 80)); print('reached')
            except OSError: print('nobody')
        """
      let outcome = try run(["python3", "-c", turned])
      #expect(outcome.text == "nobody", "\(outcome)")
    }
  }
}
