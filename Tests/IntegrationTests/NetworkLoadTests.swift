import Glibc
import Linux
import Testing
import Varlink

/// How much traffic: `make test-network` takes it in earnest, in the guests that there are; `make test` has less of it, in
/// one guest that brings its web server along.
private struct Load {
  var images = ["monolith"]
  var bytes = 50_000_000
  var connections = 2000
  var idle = 20
  var clients = 1000
  var questions = 5

  static let wanted =
    Checkout.environmentVariable("HENGE_TEST_NETWORK") == nil
    ? Load()
    : Load(images: ["bookworm", "trixie", "forky"], bytes: 1 << 30, connections: 2000, idle: 300, questions: 20)
}

/// Much traffic at once and connections that rest, through each forwarder, and ends of what carries them.
@Suite("Network under load", .serialized)
struct NetworkLoadTests {
  private static let site = """
    set -e; mkdir -p /srv/load; for i in $(seq 200); do echo load; done >/srv/load/load
    # As an operator does who expects that many: the package's own limit is 768 for each of its processes.
    sed -i 's/worker_connections .*/worker_connections 8192;/; 1i worker_rlimit_nofile 16384;' /etc/nginx/nginx.conf
    rm -f /etc/nginx/sites-enabled/default
    echo 'server { listen 80; listen [::]:80; server_name a; root /srv/load; keepalive_requests 100000; }' \\
      >/etc/nginx/sites-enabled/load
    systemctl -q enable nginx; systemctl restart nginx
    """

  private static let client = "\(Checkout.root)/Tests/IntegrationTests/Network/client.py"

  /// A guest behind a forwarder, and the port of the host that leads to its web server.
  private struct Cell {
    var image: String
    var forwarder: String
    var port: Int
    var name: String
    var description: String { "\(image) behind \(forwarder)" }
  }

  /// A machine for each forwarder, with an nginx in it: from the mirror of the guest's own where the image has none, over
  /// the host's own network.
  private func cells(_ lab: NetworkLab, _ load: Load) throws -> [Cell] {
    var result: [Cell] = []
    for image in load.images {
      try lab.sandbox.image(image)
      let first = lab.sandbox.name("\(image)-slirp4netns")
      try lab.succeed("create", image, first)
      if image != "monolith" {
        try lab.sandbox.succeed("start", first)
        let script =
          "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends nginx"
        let outcome = try lab.sandbox.hengectl("exec", first, "--", "sh", "-c", script, deadline: 300)
        #expect(outcome.code == 0, "\(outcome)")
        try lab.sandbox.succeed("poweroff", first)
      }
      let second = lab.sandbox.name("\(image)-pasta")
      try lab.succeed("clone", first, second)
      for (forwarder, name) in [("slirp4netns", first), ("pasta", second)] {
        result.append(Cell(image: image, forwarder: forwarder, port: 8080 + result.count, name: name))
      }
    }
    return result
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func trafficInEarnest() throws {
    let load = Load.wanted
    try withLab("load", load.images[0]) { lab in
      let cells = try cells(lab, load)
      var table = ["", "network under load: guest, forwarder, what was asked for, what came"]
      // What rests does so beside all the rest.
      let resting = try cells.map { cell in
        try lab.succeed("start", "-s", "Forwarder=\(cell.forwarder)", "-s", "Port=\(cell.port):80", cell.name)
        return try inside(lab, lab.sandbox.guest(cell.name), "idle", NetworkLab.outside4, 7, load.idle)
      }
      defer { for client in resting { client.signal(SIGKILL) } }
      for cell in cells {
        let guest = try lab.sandbox.guest(cell.name)
        var row: [String] = []
        try many(lab, guest, load, cell, &row)
        try transfer(lab, guest, load, cell, &row)
        let site = try lab.hengectl(["exec", cell.name, "--", "sh", "-c", Self.site])
        #expect(site.code == 0, "\(site)")
        try clients(lab, load, cell, &row)
        table.append("  \(cell.image)  \(cell.forwarder)  " + row.joined(separator: ", "))
        print(table[table.count - 1])
      }
      for (cell, client) in zip(cells, resting) {
        let rested = try client.wait(deadline: Double(load.idle) + 1800)
        #expect(rested.text == "alive", "\(cell.description): \(rested)")
        // Nothing of all that had to be started again on the way.
        let state = try lab.network(of: cell.name)
        #expect(state["restarts"]?.intValue == 0 && state["relay"]?["restarts"]?.intValue == 0, "\(state.compact)")
      }
      table.append("  all of them: a connection that rested for \(load.idle) s went on")
      for cell in cells { try lab.succeed("terminate", cell.name) }
      print(table.joined(separator: "\n"))
    }
  }

  /// A client in the machine's network namespace.
  private func inside(
    _ lab: NetworkLab, _ guest: Guest, _ kind: String, _ host: String, _ numbers: Int...
  ) throws -> RunningProgram {
    let words = [kind, host] + numbers.map(String.init)
    return try RunningProgram(
      [
        "nsenter", "-t", "\(guest.leader)", "-n", "sh", "-c", "ulimit -n 8192; exec python3 \"$@\"", "sh", Self.client,
      ]
        + words)
  }

  private func many(
    _ lab: NetworkLab, _ guest: Guest, _ load: Load, _ cell: Cell, _ row: inout [String]
  ) throws {
    for host in [NetworkLab.outside4, NetworkLab.outside6] {
      let outcome = try inside(lab, guest, "many", host, 7, load.connections).wait(deadline: 180)
      #expect(outcome.text == "\(load.connections)", "\(cell.description): \(outcome)")
      row.append("\(load.connections) at once in \(rounded(outcome.seconds)) s")
    }
  }

  private func transfer(
    _ lab: NetworkLab, _ guest: Guest, _ load: Load, _ cell: Cell, _ row: inout [String]
  ) throws {
    let url = "http://\(NetworkLab.outside4)"
    let down = """
      set -e; [ "$(curl -sf $1/$2 | sha256sum | cut -c1-64)" = "$(curl -sf $1/$2/digest)" ]
      """
    let up = """
      set -e; head -c $2 /dev/urandom >$3; sum=$(sha256sum <$3 | cut -c1-64)
      # On a busy host pasta, whose uploads stall, may give one up.
      for try in 1 2 3; do answer=$(curl -sf -T $3 $1/x) && break; done; rm $3; [ "$answer" = $sum ]
      """
    for (direction, script) in [("down", down), ("up", up)] {
      let outcome = try lab.client(
        guest, "sh", "-c", script, "sh", url, "\(load.bytes)", "\(lab.sandbox.folder)/upload", deadline: 600)
      #expect(outcome.code == 0, "\(cell.description), \(direction): \(outcome)")
      row.append("\(load.bytes >> 20) MiB \(direction) in \(rounded(outcome.seconds)) s")
    }
  }

  private func clients(_ lab: NetworkLab, _ load: Load, _ cell: Cell, _ row: inout [String]) throws {
    let outcome = try lab.outside(
      "sh", "-c", "ulimit -n 8192; exec python3 \"$@\"", "sh", Self.client, "keep", NetworkLab.host4, "\(cell.port)",
      "\(load.clients)", "\(load.questions)", deadline: 300)
    #expect(outcome.text == "\(load.clients * load.questions) 0", "\(cell.description): \(outcome)")
    row.append(
      "nginx: \(load.clients) clients, \(load.clients * load.questions) answers in \(rounded(outcome.seconds)) s")
  }

  /// Whatever of what carries the traffic is killed while it does: the machine's services go on, and the way is there
  /// again within 2 s.
  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["slirp4netns", "pasta"])
  func whatCarriesTrafficMayBeKilledUnderLoad(_ forwarder: String) throws {
    try withLab("load-kill", "monolith") { lab in
      let name = lab.sandbox.name("k")
      try lab.succeed("create", "monolith", name)
      let before = lab.sandbox.snapshot()
      try lab.succeed("start", "-s", "Forwarder=\(forwarder)", "-s", "Port=8080:80", name)
      let guest = try lab.sandbox.guest(name)
      let site = try lab.hengectl(["exec", name, "--", "sh", "-c", Self.site])
      #expect(site.code == 0, "\(site)")
      let services = "systemctl show -P MainPID nginx cron postfix@- slapd; systemctl is-system-running"
      let running = try guest.shell(services).text

      // Streams that never end, both ways through both, and questions one after the other.
      let endless = "while :; do curl -s -m 60 -o /dev/null $1; done"
      let streams = try [
        (guest.leader, "http://\(NetworkLab.outside4)/4000000000"),
        (lab.outsideProcess, "http://\(NetworkLab.host4):8080/load"),
      ].map { process, url in
        try RunningProgram(["nsenter", "-t", "\(process)", "-n", "sh", "-c", endless, "sh", url])
      }
      defer {
        for stream in streams {
          kill(-stream.id, SIGKILL)
          _ = try? stream.wait(deadline: 10)
        }
      }
      var row: [String] = []
      for part in [nil, "relay"] as [String?] {
        let killed = try lab.process(part, of: name)
        let asked =
          part == nil
          ? try inside(lab, guest, "wait", NetworkLab.outside4, 80, 3)
          : try RunningProgram([
            "nsenter", "-t", "\(lab.outsideProcess)", "-n", "python3", Self.client, "wait", NetworkLab.host4, "8080",
            "5",
          ])
        pause(milliseconds: 1000)
        kill(killed, SIGKILL)
        let outcome = try asked.wait(deadline: 60)
        let longest = Double(outcome.text) ?? 99
        #expect(longest < 2, "\(part ?? forwarder): \(outcome)")
        #expect(try lab.process(part, of: name) != killed)
        #expect(try guest.shell(services).text == running, "the services went on")
        row.append("\(part ?? forwarder) killed: back after \(rounded(longest)) s at most")
      }
      // A supervisor that is killed takes the machine along, and everything that was made for it.
      let supervisor = try lab.sandbox.hengectl("status", "--json", name).json()["supervisor"]?.intValue ?? 0
      let leader = try Pidfd(opening: guest.leader)
      kill(Int32(supervisor), SIGKILL)
      var poll = pollfd(fd: leader.descriptor.raw, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 5000) == 1, "the machine ends")
      // The next command puts things right.
      #expect(try lab.hengectl(["status", name]).text.contains("stopped"))
      try lab.succeed("start", "-s", "Forwarder=\(forwarder)", "-s", "Port=8080:80", name)
      try lab.succeed("terminate", name)
      let left = lab.sandbox.difference(from: before).filter { $0 != "+ file \(lab.sandbox.runtime)/machines" }
      #expect(left == [])
      print("\nunder load, \(row.joined(separator: "; ")); supervisor killed: the machine ends, nothing is left")
    }
  }
}
