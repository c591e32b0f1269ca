import Glibc
import Linux
import Testing
import Varlink

/// Published ports, where who accepts a connection in the machine is given the host's own socket: as clients outside,
/// servers inside and the host itself see it. The servers run as services of the machine's (Network/handedin.c.txt): a
/// process that only joined it is not watched.
@Suite("Handed in", .serialized)
struct HandedInTests {
  static let (four, six) = (NetworkLab.host4, NetworkLab.host6)
  /// As they come outside.
  private static let (client4, client6) = (NetworkLab.outside4, NetworkLab.outside6)

  /// A machine with its ports from 9000 on published, and servers in it that listen.
  ///
  /// - Parameter servers: as the program takes them.
  func withServers(
    _ purpose: String, _ servers: [String], settings: [String] = ["HandOff=yes"], withoutBPF: Bool = false,
    _ body: (NetworkLab, String) throws -> Void
  ) throws {
    try withLab("handed-\(purpose)") { lab in
      let program = try NetworkProgram.made("handedin")
      let name = lab.sandbox.name("i")
      try lab.succeed("create", "trixie", name)
      let folder = program.split(separator: "/").dropLast().joined(separator: "/")
      let words = settings + ["Port=9000-9031:9000-9031", "BindReadOnly=/\(folder):/opt/test"]
      let before = withoutBPF ? "set -- \(try NetworkProgram.made("handoff")) without-bpf \"$@\";" : ""
      let outcome = try lab.hengectl(["start", name] + words.flatMap { ["-s", $0] }, before: before)
      guard outcome.succeeded else { throw Complaint("\(outcome)") }
      let running = try lab.sandbox.start(["exec", name, "--", "/opt/test/handedin", "serve"] + servers)
      defer {
        running.signal(SIGKILL)
        _ = try? running.wait(deadline: 5)
      }
      let leader = try lab.sandbox.guest(name).leader
      for server in servers {
        let port = UInt16(server.split(separator: "/").first ?? "") ?? 0
        try until("\(server) listens") { !sockets(of: leader, at: port, in: .listening).isEmpty }
      }
      try body(lab, name)
      try lab.succeed("terminate", name)
    }
  }

  private enum State: String {
    case established = "01"
    case listening = "0A"
  }

  /// The inodes of TCP's sockets at a local port, in the network namespace of a process, as its kernel tells.
  private func sockets(of process: Int32, at port: UInt16, in state: State) -> [String] {
    ["tcp", "tcp6"].flatMap { kind in
      (read("/proc/\(process)/net/\(kind)") ?? "").split(separator: "\n").dropFirst().compactMap { line -> String? in
        let words = line.split(separator: " ")
        guard words.count > 9, let hex = words[1].split(separator: ":").last, UInt16(hex, radix: 16) == port,
          words[3] == state.rawValue
        else { return nil }
        return String(words[9])
      }
    }
  }

  /// Which processes of the whole host have a socket.
  private func holders(of inode: String) -> [Int32] {
    Host.processes.filter { process in
      names(in: "/proc/\(process)/fd").contains {
        Descriptor.currentDirectory.linkTarget("/proc/\(process)/fd/\($0)") == "socket:[\(inode)]"
      }
    }
  }

  /// A client outside.
  private func client(_ lab: NetworkLab, _ words: String..., deadline: Double = 60) throws -> String {
    let prefix = ["nsenter", "-t", "\(lab.outsideProcess)", "-n", "sh", "-c", "ulimit -n 4096; exec \"$@\"", "sh"]
    let outcome = try run(prefix + [try NetworkProgram.made("handedin")] + words, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  func start(_ lab: NetworkLab, _ words: String...) throws -> RunningProgram {
    try RunningProgram(["nsenter", "-t", "\(lab.outsideProcess)", "-n", try NetworkProgram.made("handedin")] + words)
  }

  /// What a client printed, line by line: each of `NAME=VALUE`.
  private func fields(_ text: String) -> [[Substring: Substring]] {
    text.split(separator: "\n").map { line in
      let pairs = line.split(separator: " ").map { $0.split(separator: "=", maxSplits: 1) }
      return Dictionary(pairs.filter { $0.count == 2 }.map { ($0[0], $0[1]) }, uniquingKeysWith: { $1 })
    }
  }

  private func handedIn(_ lab: NetworkLab, _ name: String) throws -> Int64 {
    let state = try lab.network(of: name)
    let (broker, relay) = (state["handOff"]?["handedIn"]?.intValue, state["relay"]?["handedOver"]?.intValue)
    guard let broker, let relay, broker == relay else { throw Complaint("broker and relay differ: \(state.compact)") }
    return broker
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler, arguments: ["HandOff=yes", "Mode=sockets"])
  func whoAcceptsGetsWhatTheKernelWouldHaveGivenWithTheClientItself(_ setting: String) throws {
    let kinds = ["4", "6", "6only"]
    let ways = ["epoll", "poll", "null", "short"]
    let rows = kinds.flatMap { kind in ways.map { (kind, $0) } }.enumerated().map {
      (port: 9000 + $0, kind: $1.0, way: $1.1)
    }
    let servers = rows.map { "\($0.port)/\($0.kind)/\($0.way)/report" } + ["9020/6/epoll/hold"]
    try withServers("table", servers, settings: [setting]) { lab, name in
      let guest = try lab.sandbox.guest(name)
      let program = try NetworkProgram.made("handedin")
      var expectedCount = try handedIn(lab, name)
      for row in rows {
        // Nothing of hand-off is about one of the machine's own.
        let own = fields(
          try lab.client(guest, program, "report", row.kind == "4" ? "127.0.0.1" : "::1", "\(row.port)", "1").text)
        let options = try #require(own.first?["options"])
        #expect(options.hasPrefix("1,1,77,12345,") && own.first?["of"] == "own", "\(own)")
        for (address, own) in [(Self.four, Self.client4), (Self.six, Self.client6)] {
          let isV4 = address == Self.four
          let said = try client(lab, "report", address, "\(row.port)", "2")
          let found = fields(said)
          #expect(found.count == 2)
          for one in found {
            let local: Substring = try #require(one["local"])
            #expect(local.hasPrefix("\(own)/"), "\(said)")
            let family = row.kind == "4" ? 4 : 6
            #expect(one["family"] == "\(family),\(family),\(family)", "\(row) \(said)")
            #expect(one["flags"] == (row.way == "epoll" ? "nonblock,cloexec" : "block,kept"), "\(row) \(said)")
            #expect(one["options"] == options, "\(row) \(said)")
            #expect(one["then"] == "end", "\(row) \(said)")
            // One of the other family has no way to be what is listened for there: the relay speaks for it.
            let isHanded = row.kind == "6" || (row.kind == "4") == isV4
            #expect(one["of"] == (isHanded ? "host" : "own"), "\(row) \(said)")
            let peer: Substring = try #require(one["peer"])
            if isHanded {
              expectedCount += 1
              #expect(peer == (family == 6 && isV4 ? "::ffff:" : "") + local, "\(row) \(said)")
            } else {
              #expect(peer.hasPrefix(family == 4 ? "10.0.2.100/" : "fd00::100/"), "\(row) \(said)")
            }
            let port = peer.split(separator: "/").last ?? ""
            let others = ["null": "nobody", "short": "\(family == 4 ? 16 : 28):kept:\(family):\(port)"]
            let told = others[row.way]
            #expect(one["told"] == told.map { Substring($0) } ?? peer, "\(row) \(said)")
          }
        }
      }
      #expect(try handedIn(lab, name) == expectedCount)
      try checkTheHostsSide(lab, guest)
    }
  }

  /// The connection is the host's, and nobody has it but the machine's program.
  private func checkTheHostsSide(_ lab: NetworkLab, _ guest: Guest) throws {
    let held = try start(lab, "hold", Self.four, "9020", "1500")
    var found: [String] = []
    // One that nobody has accepted yet has no number.
    try until("there is a connection") {
      found = sockets(of: lab.hostProcess, at: 9020, in: .established).filter { $0 != "0" }
      return !found.isEmpty
    }
    let inode = try #require(found.first)
    // The relay, which offered it, lets go of it as soon as it knows.
    try until("nobody else holds it", within: 1) { holders(of: inode).count == 1 }
    let holder = try #require(holders(of: inode).first)
    #expect((read("/proc/\(holder)/cmdline") ?? "").contains("handedin"))
    #expect(Host.namespace("\(holder)", "net") == Host.namespace("\(guest.leader)", "net"))
    #expect(sockets(of: guest.leader, at: 9020, in: .established) == [])
    let said = fields(try held.wait(deadline: 20).text)
    #expect(said.first?["of"] == "host" && said.first?["then"] == "end", "\(said)")
    try until("it is gone", within: 5) { sockets(of: lab.hostProcess, at: 9020, in: .established) == [] }
  }

  /// By whichever way: it is accepted late or waited for, by a program of 32 bits, in a network of its own.
  @Test(
    .needsRoot, .needsPrograms, .needsImages, .needsCompiler,
    .enabled(if: findProgram("nft") != nil, "needs nft (package nftables)"))
  func whatIsSaidArrivesWhoeverCarriesIt() throws {
    let ways = ["4/epoll", "6/poll", "6/late", "4/blocked"] + (hasI386 ? ["4/i386"] : [])
    let servers = ways.enumerated().flatMap { ["\(9000 + $0)/\($1)/exchange", "\(9010 + $0)/\($1)/abort"] }
    try withServers("bytes", servers + ["9020/4/blocked/quick"]) { lab, name in
      for (index, way) in ways.enumerated() { try checkBytes(lab, way, 9000 + index, abort: 9010 + index) }
      // Each waits in the same call again.
      let many = fields(try client(lab, "report", Self.four, "9020", "200"))
      #expect(many.count == 200 && many.allSatisfy { $0["then"] == "end" })
      #expect(many.contains { $0["of"] == "own" })
      try checkInner(lab, name)
    }
  }

  private func checkBytes(_ lab: NetworkLab, _ way: String, _ port: Int, abort: Int) throws {
    var handed = 0
    var count = 0
    for size in [0, 1, 100_000, 32 << 20] {
      for moment in ["early", "late", "asked"] {
        let said = try client(lab, "exchange", Self.four, "\(port)", "\(size)", moment)
        #expect(said.hasSuffix(" there \(size) back \(size) then end"), "\(way) \(size) \(moment): \(said)")
        let isHanded = said.hasPrefix("of=host")
        // More than the machine's end takes in before anybody reads may be carried; and one of IPv6, as the host's is,
        // becomes one of IPv4 only as long as its client may still say something.
        let isSure = moment == "asked" || size <= 1 && !(way.hasPrefix("4") && moment == "early")
        if isSure, ["epoll", "poll", "late"].contains(way.dropFirst(2)) {
          #expect(isHanded, "\(way) \(size) \(moment): \(said)")
        }
        handed += isHanded ? 1 : 0
        count += 1
      }
    }
    // Who is not quick enough to wait again is given the next one.
    if way.hasSuffix("blocked") { #expect(handed < count, "all were handed in") }
    if way.hasSuffix("i386") || way.hasSuffix("container") { #expect(handed == 0, "\(way)") }
    #expect(try client(lab, "abort", Self.four, "\(abort)") == "ECONNRESET", "\(way)")
  }

  /// A container's network, to which the machine leads what comes.
  private func checkInner(_ lab: NetworkLab, _ name: String) throws {
    let guest = try lab.sandbox.guest(name)
    let script = """
      echo $$ >/run/inner; until ip route show default | grep -q via; do sleep 0.05; done
      exec /opt/test/handedin serve 9030/4/poll/exchange 9031/4/poll/abort
      """
    let inner = try lab.sandbox.start(["exec", name, "--", "unshare", "--net", "sh", "-c", script])
    defer {
      inner.signal(SIGKILL)
      _ = try? inner.wait(deadline: 5)
    }
    try until("it has a network") { try guest.shell("test -s /run/inner").succeeded }
    let made = try guest.shell(
      """
      set -e; p=$(cat /run/inner); i="nsenter -t $p -n ip"
      ip link add v0 type veth peer name c0 netns $p; ip addr add 172.30.0.1/24 dev v0; ip link set v0 up
      $i addr add 172.30.0.2/24 dev c0; $i link set lo up; $i link set c0 up; $i route add default via 172.30.0.1
      """)
    #expect(made.succeeded, "\(made)")
    let rules =
      "add table ip t; add chain ip t o { type nat hook output priority -100; }; "
      + "add rule ip t o ip daddr 10.0.2.100 tcp dport 9030-9031 dnat to 172.30.0.2"
    let led = try lab.client(guest, "nft", rules)
    #expect(led.succeeded, "\(led)")
    let process = try #require(
      Int32(try guest.shell("cat /run/inner").text).flatMap { inside in
        Host.processes.first {
          Host.status($0, "NSpid")?.split(separator: "\t").last == "\(inside)"
            && Host.namespace("\($0)", "pid") == Host.namespace("\(guest.leader)", "pid")
        }
      })
    try until("it listens") {
      sockets(of: process, at: 9030, in: .listening).count == 1
        && sockets(of: process, at: 9031, in: .listening).count == 1
    }
    try checkBytes(lab, "4/container", 9030, abort: 9031)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func whoHasNoDescriptorLeftIsToldAndLosesNoClient() throws {
    try withServers("full", ["9000/4/poll/full", "9001/4/late/full"]) { lab, name in
      for _ in 0..<3 {
        let said = try client(lab, "report", Self.four, "9000", "1")
        #expect(said.hasSuffix(" EMFILE then=end"), "\(said)")
      }
      // One from inside, too, who is accepted for the program while one from outside is on offer.
      let leader = try lab.sandbox.guest(name).leader
      let program = try NetworkProgram.made("handedin")
      for _ in 0..<3 {
        let inside = try RunningProgram(
          ["nsenter", "-t", "\(leader)", "-n", program, "report", "127.0.0.1", "9001", "1"])
        let outside = try start(lab, "report", Self.four, "9001", "1")
        for said in try [inside, outside].map({ try $0.wait(deadline: 20).text }) {
          #expect(said.hasSuffix(" EMFILE then=end"), "\(said)")
        }
      }
    }
  }

  /// One that its program closed before the relay did is the relay's to close, and what the program wanted to wait for
  /// would hold up everybody else.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func aProgramsWishToLingerHoldsUpNobodyElse() throws {
    try withServers("linger", ["9000/4/epoll/quick", "9001/4/late/linger"]) { lab, name in
      let leader = try lab.sandbox.guest(name).leader
      let relay = try lab.process("relay", of: name)
      // It reads nothing: what is sent to it is never through.
      let mute = try start(lab, "silent", Self.four, "9001", "9000")
      defer {
        kill(relay, SIGCONT)
        mute.signal(SIGKILL)
        _ = try? mute.wait(deadline: 5)
      }
      try until("it waits to be accepted") { !sockets(of: leader, at: 9001, in: .established).isEmpty }
      kill(relay, SIGSTOP)
      try until("it is accepted") { try lab.network(of: name)["handOff"]?["handedIn"]?.intValue == 1 }
      try until("it is closed") { sockets(of: leader, at: 9001, in: .established).isEmpty }
      usleep(300_000)
      kill(relay, SIGCONT)
      let start = ContinuousClock.now
      _ = try client(lab, "report", Self.four, "9000", "1")
      #expect(ContinuousClock.now - start < .seconds(3))
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func whoIsKilledUnderLoadIsThereAgainAndHasForgottenNobody() throws {
    try withServers("kill", ["9000/4/epoll/quick", "9001/4/blocked/quick"]) { lab, name in
      let guest = try lab.sandbox.guest(name)
      func held() throws -> [Int] {
        try ["handOff", "relay"].map { part in
          let process = try lab.process(part, of: name)
          return names(in: "/proc/\(process)/fd").count {
            Descriptor.currentDirectory.linkTarget("/proc/\(process)/fd/\($0)")?.hasPrefix("socket:") ?? false
          }
        }
      }
      for port in ["9000", "9001"] { _ = try client(lab, "load", Self.four, port, "200") }
      let (idle, listener) = (try held(), sockets(of: guest.leader, at: 9000, in: .listening))
      #expect(listener.count == 1)
      let clients = try ["9000", "9000", "9001"].map { try start(lab, "load", Self.four, $0, "5000") }
      for part in ["handOff", "relay", "handOff", "relay", "handOff"] {
        let before = try lab.network(of: name)["relay"]?["connections"]?.intValue ?? 0
        let goesOn = try lab.time(until: 5) {
          (try lab.network(of: name)["relay"]?["connections"]?.intValue ?? 0) > before
        }
        #expect(goesOn != nil, "no load")
        let process = try lab.process(part, of: name)
        kill(process, SIGKILL)
        let back = try lab.time(until: 10) { (try? lab.process(part, of: name)).map { $0 != process } ?? false }
        #expect((back ?? 99) < 2, "\(part) back after \(back ?? -1) s")
        pause(milliseconds: 300)
      }
      for (index, running) in clients.enumerated() {
        let outcome = try running.wait(deadline: 30)
        let numbers = outcome.text.split(separator: " ").compactMap { Int($0) }
        // good, broken, hung, of the host's, the longest time without one
        #expect(numbers.count == 5 && numbers[0] > 100 && numbers[2] == 0 && numbers[4] < 2000, "\(outcome)")
        if index < 2 { #expect(numbers.count == 5 && numbers[3] > numbers[0] / 2, "\(outcome)") }
      }
      #expect(sockets(of: guest.leader, at: 9000, in: .listening) == listener)
      let state = try lab.network(of: name)
      #expect(state["handOff"]?["restarts"]?.intValue == 3 && state["relay"]?["restarts"]?.intValue == 2)
      let last = fields(try client(lab, "report", Self.four, "9000", "20"))
      #expect(last.count == 20 && last.allSatisfy { $0["of"] == "host" && $0["then"] == "end" }, "\(last)")
      try until("they hold what they did: \(idle) \((try? held()) ?? [])", within: 5) {
        zip(try held(), idle).allSatisfy { $0 <= $1 }
      }
      #expect(try lab.network(of: name)["relay"]?["open"]?.intValue == 0)
    }
  }

  /// A service that trusts its own loopback must see nobody there who came from elsewhere: not by that address.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func whoComesFromTheHostsLoopbackIsCarried() throws {
    try withServers("loopback", ["9000/6/epoll/quick", "9001/4/epoll/quick", "9002/6only/epoll/quick"]) { lab, name in
      let program = try NetworkProgram.made("handedin")
      let before = try handedIn(lab, name)
      for (address, port, peer) in [
        ("127.0.0.1", 9000, "::ffff:10.0.2.100/"), ("::1", 9000, "fd00::100/"), ("127.0.0.1", 9001, "10.0.2.100/"),
        ("127.1.2.3", 9001, "10.0.2.100/"), ("::1", 9002, "fd00::100/"),
      ] {
        let said = try lab.onHost(program, "report", address, "\(port)", "2").text
        let found = fields(said)
        #expect(found.count == 2)
        for one in found {
          #expect(one["of"] == "own" && one["then"] == "end" && one["told"] == one["peer"], "\(said)")
          #expect(one["peer"]?.hasPrefix(peer) == true, "\(said)")
        }
      }
      #expect(try handedIn(lab, name) == before)
      #expect(fields(try client(lab, "report", Self.four, "9000", "1")).first?["of"] == "host")
      #expect(try handedIn(lab, name) == before + 1)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler)
  func amongSeveralEachClientIsAcceptedOnce() throws {
    let servers = ["9000/6/epoll/number/4", "9001/4r/poll/number/4", "9002/4/poll/number/4", "9003/4/blocked/number/4"]
    try withServers("crowd", servers) { lab, name in
      for port in 9000...9003 {
        let said = try client(lab, "crowd", Self.four, "\(port)", "500")
        let numbers = said.split(separator: " ").compactMap { Int($0) }
        // answered, of the host's, different turns, turns in all, processes
        #expect(numbers.count == 5 && numbers[0] == 500 && numbers[2] == 500 && numbers[3] == 500, "\(port) \(said)")
        #expect(numbers.count == 5 && numbers[4] > 1, "\(port) \(said)")
        if port < 9003 { #expect(numbers.count == 5 && numbers[1] > 0, "\(port) \(said)") }
      }
      try until("all have ended", within: 5) { try lab.network(of: name)["relay"]?["open"]?.intValue == 0 }
    }
  }

  /// On kernels that let only the host's root set a filter nobody gets a socket without one.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsCompiler, .needsUsers)
  func anOrdinaryUsersServiceIsServedEitherWay() throws {
    try withLab("handed-user") { lab in
      let host = try UserHost(lab.sandbox, ids: [131072])
      defer { host.cleanUp() }
      let user = try #require(host.users.first)
      try user.image("trixie")
      let program = "\(host.programs)/handedin"
      try runWell(["install", "-m", "0755", try NetworkProgram.made("handedin"), program])
      let place = lab.hostProcess
      let settings = ["Mode=sockets", "Port=9000-9001:9000-9001", "BindReadOnly=\(host.programs):/opt/test"]
      let words = ["create", "trixie", "served"] + settings.flatMap { ["-s", $0] }
      let created = try user.run(["\(host.programs)/hengectl"] + words)
      #expect(created.succeeded, "\(created)")
      let started = try user.run(["\(host.programs)/hengectl", "start", "served"], network: place)
      #expect(started.succeeded, "\(started)")
      let unit = try user.hengectl(
        "exec", "served", "--", "systemd-run", "--quiet", "/opt/test/handedin", "serve", "9000/6/epoll/exchange",
        "9001/4/blocked/exchange")
      #expect(unit.succeeded, "\(unit)")
      let leader = try user.guest("served").leader
      for port in [9000, 9001] as [UInt16] {
        try until("it listens at \(port)") { !sockets(of: leader, at: port, in: .listening).isEmpty }
      }
      let filters = try lab.onHost(try NetworkProgram.made("handoff"), "filters").text == "filters yes"
      for (address, port) in [(Self.four, "9000"), (Self.six, "9000"), (Self.four, "9001")] {
        for size in ["1", "1000000"] {
          let said = try client(lab, "exchange", address, port, size, "asked")
          #expect(said.hasSuffix(" there \(size) back \(size) then end"), "\(said)")
          let isHanded = filters && port == "9000"
          if port == "9000" { #expect(said.hasPrefix(isHanded ? "of=host" : "of=own"), "\(said)") }
        }
      }
      let state = try user.hengectl("status", "--json", "served").json()["networkState"] ?? .null
      #expect((state["handOff"]?["handedIn"]?.intValue ?? -1) == (filters ? 4 : 0), "\(state.compact)")
      try user.succeed("poweroff", "served")
    }
  }
}
