import Glibc
import Linux
import Testing
import Varlink

/// A host and a world outside of it, in network namespaces of the test's own: nothing that a machine sends gets any
/// further. The two are there as long as a process of each is.
final class NetworkLab {
  let sandbox: Sandbox
  private var running: [RunningProgram] = []
  private let host: RunningProgram
  private let outside: RunningProgram

  /// The host's addresses, and those of the world outside.
  static let host4 = "192.0.2.1"
  static let host6 = "2001:db8::1"
  static let outside4 = "192.0.2.2"
  static let outside6 = "2001:db8::2"
  static let metadata = "169.254.169.254"

  init(_ sandbox: Sandbox) throws {
    self.sandbox = sandbox
    host = try RunningProgram(["unshare", "--net", "sleep", "3600"], environment: sandbox.environment)
    outside = try RunningProgram(["unshare", "--net", "sleep", "3600"], environment: sandbox.environment)
    running = [host, outside]
    // unshare has to have run before there is anything to be seen of it.
    let own = Host.namespace("self", "net")
    for process in [host.id, outside.id] {
      for _ in 0..<500 where Host.namespace("\(process)", "net") == own { pause(milliseconds: 10) }
    }
    let script = """
      set -e
      h="nsenter -t $1 -n" o="nsenter -t $2 -n"
      $h ip link add up0 mtu 65520 type veth peer name down0 mtu 65520 netns $2
      for side in "$h" "$o"; do $side ip link set lo up; done
      $h ip addr add \(Self.host4)/24 dev up0; $h ip addr add \(Self.host6)/64 dev up0 nodad
      $o ip addr add \(Self.outside4)/24 dev down0; $o ip addr add \(Self.outside6)/64 dev down0 nodad
      $o ip addr add \(Self.metadata)/32 dev lo
      $h ip link set up0 up; $o ip link set down0 up
      $h ip route add default via \(Self.outside4); $h ip -6 route add default via \(Self.outside6)
      $h sh -c 'echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range'
      echo nameserver \(Self.outside4) > $3
      """
    try runWell(["sh", "-c", script, "sh", "\(host.id)", "\(outside.id)", resolvConf])
    try serve(in: outside.id, [Self.outside4, Self.outside6, Self.metadata])
  }

  private var resolvConf: String { "\(sandbox.folder)/resolv.conf" }

  /// Servers of every kind (see Network/outside.py), in the network namespace of a process.
  func serve(in process: Int32, _ addresses: [String]) throws {
    let script = "\(Checkout.root)/Tests/IntegrationTests/Network/outside.py"
    let log = "\(sandbox.folder)/outside-\(running.count)"
    let words = addresses.joined(separator: " ")
    running.append(
      try RunningProgram(
        ["sh", "-c", "ulimit -n 16384; exec nsenter -t \(process) -n python3 \(script) \(words) > \(log) 2>&1"],
        environment: sandbox.environment))
    for _ in 0..<1000 {
      if read(log)?.hasPrefix("ready") ?? false { return }
      pause(milliseconds: 10)
    }
    throw Complaint("no servers at \(words): \(read(log) ?? "")")
  }

  /// A process in the host's network namespace.
  var hostProcess: Int32 { host.id }

  /// A process in the world outside.
  var outsideProcess: Int32 { outside.id }

  func serveOnHost(_ addresses: [String]) throws { try serve(in: host.id, addresses) }

  func end() {
    for program in running.reversed() {
      program.signal(SIGKILL)
      _ = try? program.wait(deadline: 5)
    }
  }

  /// Runs hengectl on the lab's host.
  @discardableResult
  func hengectl(_ arguments: [String], before: String = "", deadline: Double = 120) throws -> Outcome {
    let script = "mount --bind \(resolvConf) /etc/resolv.conf; \(before) exec \"$@\""
    return try run(
      [
        "nsenter", "-t", "\(host.id)", "-n", "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
        "\(Checkout.programs)/hengectl",
      ] + arguments, environment: sandbox.environment, deadline: deadline)
  }

  @discardableResult
  func succeed(_ arguments: String..., deadline: Double = 120) throws -> String {
    let outcome = try hengectl(arguments, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  /// Runs a program outside.
  @discardableResult
  func outside(_ arguments: String..., deadline: Double = 60) throws -> Outcome {
    try run(["nsenter", "-t", "\(outside.id)", "-n"] + arguments, deadline: deadline)
  }

  /// Runs a program in the host's network namespace.
  @discardableResult
  func onHost(_ arguments: String..., deadline: Double = 60) throws -> Outcome {
    try run(["nsenter", "-t", "\(host.id)", "-n"] + arguments, deadline: deadline)
  }

  /// Starts a program in the host's network namespace.
  func startOnHost(_ arguments: [String]) throws -> RunningProgram {
    try RunningProgram(["nsenter", "-t", "\(host.id)", "-n"] + arguments, environment: sandbox.environment)
  }

  /// Runs a program of the host's in a machine's network namespace only: for clients that a stock image has not.
  @discardableResult
  func client(_ guest: Guest, _ arguments: String..., deadline: Double = 60) throws -> Outcome {
    try run(["nsenter", "-t", "\(guest.leader)", "-n"] + arguments, deadline: deadline)
  }

  /// Which of these answer to a program in a machine's network namespace. All are tried at once: most of them are not
  /// answered at all.
  func hits(_ guest: Guest, _ urls: [String]) throws -> [String] {
    let scan = "for url; do (curl -g -s -m 3 -o /dev/null \"$url\" && echo \"$url\") & done; wait"
    let outcome = try run(["nsenter", "-t", "\(guest.leader)", "-n", "sh", "-c", scan, "sh"] + urls)
    return outcome.text.split(separator: "\n").map(String.init).sorted()
  }

  /// Which of these echo a datagram to a program in a machine's network namespace.
  func hitsByDatagrams(_ guest: Guest, _ addresses: [String]) throws -> [String] {
    let echo = """
      import socket, sys
      for host in sys.argv[1:]:
          s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
          try: s.sendto(b'hello', (host, 7)); s.recv(100); print(host)
          except OSError: pass
      """
    let outcome = try run(["nsenter", "-t", "\(guest.leader)", "-n", "python3", "-c", echo] + addresses)
    return outcome.text.split(separator: "\n").map(String.init)
  }

  /// An abstract Unix socket of the host's that somebody listens at.
  func listenOnHostAbstractly(_ name: String) throws {
    let listen =
      "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\\0\(name)'); s.listen(); time.sleep(3600)"
    running.append(try startOnHost(["python3", "-c", listen]))
    guard try time(until: 10, { try reachesAbstractly(name, from: host.id) }) != nil else {
      throw Complaint("nobody listens at @\(name)")
    }
  }

  func reachesAbstractly(_ name: String, from process: Int32) throws -> Bool {
    let connect = "import socket; socket.socket(socket.AF_UNIX).connect('\\0\(name)')"
    return try run(["nsenter", "-t", "\(process)", "-n", "python3", "-c", connect]).code == 0
  }

  /// What `status --json` says of a machine's network.
  func network(of name: String) throws -> JSON {
    try sandbox.hengectl("status", "--json", name).json()["networkState"] ?? .null
  }

  func process(_ part: String?, of name: String) throws -> Int32 {
    let state = try network(of: name)
    let found = part.map { state[$0] ?? .null } ?? state
    guard let id = found["process"]?.intValue.flatMap({ Int32(exactly: $0) }) else {
      throw Complaint("\(name) has no such process: \(state.compact)")
    }
    return id
  }

  /// Tries until it works.
  ///
  /// - Returns: how long that took, in seconds; nil when it did not within the limit.
  func time(until limit: Double, _ works: () throws -> Bool) throws -> Double? {
    let start = now()
    while Double(now() - start) / 1e9 < limit {
      if try works() { return Double(now() - start) / 1e9 }
      pause(milliseconds: 20)
    }
    return nil
  }
}

/// Runs a test in a lab with an image, and cleans up also when it fails.
func withLab(_ purpose: String, _ image: String = "trixie", _ body: (NetworkLab) throws -> Void) throws {
  try withSandbox(purpose) { sandbox in
    try sandbox.image(image)
    let lab = try NetworkLab(sandbox)
    defer { lab.end() }
    try body(lab)
    for machine in names(in: "\(sandbox.state)/machines") { try sandbox.hengectl("terminate", machine, deadline: 30) }
  }
}
