import Glibc
import Linux
import Testing

/// The table of hostile guests and verbs: what is done in a machine, and every verb that touches a machine.
struct HostileTable {
  let sandbox: Sandbox
  let machine: String

  /// What a machine calls its things, for `printf`: colours, a title, marks of direction, control characters of both kinds.
  static let evil = #"\033[31mred\033]0;owned\007\302\233 \342\200\256 rtl \342\201\246 x"#

  private static let returned = "until [ -S /run/systemd/private ]; do sleep 0.1; done"

  /// What is done in the machine before each row, as a line of its bash. The last row's process 1 is to be stopped.
  func attacks() -> [(name: String, line: String)] {
    let decoy = sandbox.decoy
    let both = "for path in /run/systemd/private /run/dbus/system_bus_socket; do rm -rf $path;"
    return HostilePeer.ways.map { ("answers: \($0)", "perl /root/peer.pl \($0) >/dev/null 2>&1 </dev/null") } + [
      ("links to the host", "\(both) ln -s \(decoy)/bus $path; done"),
      ("FIFOs", "\(both) mkfifo $path; done"),
      ("devices", "\(both) mknod $path c 1 3 || echo x >$path; done"),
      (
        "its files",
        """
        for path in /etc/passwd /etc/group /etc/nsswitch.conf /etc/hostname /etc/os-release; do
          mv $path $path.kept; ln -s \(decoy)/victim $path
        done
        rm /etc/group; mkfifo /etc/group
        rm -rf /var/log/journal /run/log/journal; ln -s \(decoy) /var/log/journal; ln -s \(decoy) /run/log/journal
        mv /bin/sh /bin/sh.kept; ln -s \(decoy)/victim /bin/sh
        """
      ),
      // A systemd that executes itself anew, as by SIGTERM, has a socket again.
      ("its names", "kill -KILL $(cat /run/peers); rm -rf /run/systemd/private; kill -TERM 1; \(Self.returned)"),
      ("process 1 stopped", "true"),
    ]
  }

  private func port(_ row: Int) -> String { "udp:127.0.0.1:\(20000 + (Int(getpid()) * 16 + row) % 20000):9" }

  /// Called all at once, as each may have to wait for an answer until its patience is over.
  func verbs(_ row: Int) -> [[String]] {
    let folder = sandbox.work
    return [
      ["units", machine], ["units", "--json", machine], ["units", "--failed", machine],
      ["status", machine], ["status", "--json", machine], ["show", machine], ["show", "--json", machine],
      ["list"], ["list", "--json"], ["top"], ["top", "--json"], ["top", machine], ["plan", machine],
      ["events", machine], ["events", "--json", machine],
      ["wait", "--timeout", "1", machine], ["wait", "--for", "evil.service", "--timeout", "1", machine],
      ["wait", "--for", "stopped", "--timeout", "1", machine],
      ["wait", "--for", "dbus.service", "--timeout", "1", "--json", machine],
      ["exec", machine, "--", "/usr/bin/true"], ["exec", "--user", "daemon", machine, "--", "/usr/bin/true"],
      ["exec", "--timeout", "1", machine, "--", "/usr/bin/sleep", "9"], ["shell", machine, "/usr/bin/true"],
      ["journal", machine, "-n", "3"], ["journal", machine, "-n", "3", "-o", "json"],
      ["console", "--history", machine],
      ["copy-to", machine, "\(folder)/given", "/root/given-\(row)"],
      ["copy-from", machine, "/root/peer.pl", "\(folder)/taken-\(row)"],
      ["bind", machine, "\(folder)/given", "/mnt/\(row)", "--mkdir"],
      ["port", machine, "add", port(row)],
      ["kill", "--kill-whom=all", "--signal=URG", machine], ["kill", "--kill-whom=leader", "--signal=URG", machine],
      ["set-limit", machine, "MemoryMax=1G"], ["set-limit", machine, "TasksMax="],
      // Of a machine that runs all these are refused.
      ["start", "--timeout", "3", machine], ["rename", machine, "\(machine)-new"], ["remove", machine],
      ["clone", machine, "\(machine)-new"], ["enable", machine],
    ]
  }

  /// What undoes some of them, and what is said of a machine that stands still: one after the other.
  func after(_ row: Int) -> [[String]] {
    [
      ["port", machine, "list"], ["port", machine, "list", "--json"], ["port", machine, "remove", port(row)],
      ["unbind", machine, "/mnt/\(row)"], ["unbind", "--lazy", machine, "/mnt"], ["freeze", machine],
      ["status", machine], ["list", "--json"], ["exec", machine, "--", "/usr/bin/true"], ["units", machine],
      ["thaw", "--json", machine],
    ]
  }

  /// Those that print something, for a terminal.
  var printing: [[String]] {
    [
      ["units", machine], ["status", machine], ["show", machine], ["list"], ["events", machine], ["plan", machine],
      ["port", machine, "list"], ["list-images"], ["image-status", "trixie"], ["doctor"],
      ["wait", "--for", "evil.service", "--timeout", "3", machine], ["wait", "--timeout", "3", machine],
      ["exec", "--no-pty", machine, "--", "/no/such"], ["journal", machine, "-n", "20", "--no-pager"],
      ["console", "--history", machine],
    ]
  }

  /// One verb ended in time and with a clear line, harmed no terminal, and printed JSON if it was asked for that.
  func check(_ row: String, _ verb: [String], _ outcome: Outcome) throws {
    let seen = Comment(rawValue: "\(row): \(outcome.description.prefix(2000))")
    #expect(!outcome.isTimedOut && [0, 1, 3, 5, 124, 126, 127].contains(outcome.code), seen)
    #expect(outcome.errorLines.allSatisfy { $0.utf8.count < 8192 } && outcome.output.utf8.count < 8 << 20, seen)
    // Into a pipe these two are as they are.
    if ["journal", "console"].contains(verb[0]) { return }
    #expect(outcome.code == 0 || outcome.errorLines.count == 1, seen)
    expectHarmless(outcome)
    if verb.contains("--json"), outcome.code == 0 {
      try write(outcome.output, to: "\(sandbox.work)/answer")
      let lines = verb[0] == "events" ? ["--json-lines"] : []
      try runWell(["python3", "-m", "json.tool"] + lines + ["\(sandbox.work)/answer"])
    }
  }

  /// Calls all verbs against one row.
  func call(_ name: String, _ row: Int) throws {
    // It prompts, or is refused; who types this leaves it.
    let began = now()
    let login = try sandbox.attach("login", machine)
    login.send("\u{1d}\u{1d}\u{1d}")
    let calls = try verbs(row).map { (verb: $0, program: try sandbox.start($0)) }
    var last = calls[0].verb
    try until("all verbs end", within: 60) {
      guard let running = calls.first(where: { $0.program.isRunning }) else { return true }
      last = running.verb
      return false
    }
    let seconds = Double(now() - began) / 1e9
    for (verb, program) in calls { try check(name, verb, try program.wait(deadline: 60)) }
    let code = try login.finish(seconds: 60)
    #expect([0, 1, 124].contains(code), "\(name): login: \(login.output)")
    if code != 0 { try checkTerminal(name, ["login"], code, login.output) }
    for verb in after(row) { try check(name, verb, try sandbox.hengectl(verb, deadline: 60)) }
    let all = Double(now() - began) / 1e9
    print(
      "hostile: \(name): \(last.joined(separator: " ")) ended last, after \(rounded(seconds)) s; all \(rounded(all)) s")
  }

  /// What was shown on a terminal has no control characters but our own.
  private func checkTerminal(_ row: String, _ verb: [String], _ code: Int32, _ text: String) throws {
    var shown = text.replacing("\r\n", with: "\n").replacing("\r\u{1b}[K", with: "").replacing(
      "\u{1b}[H\u{1b}[J", with: "")
    for (colour, word) in [("32", "running"), ("33", "degraded"), ("2", "stopped")] {
      shown = shown.replacing("\u{1b}[\(colour)m\(word)\u{1b}[0m", with: word)
    }
    expectHarmless(
      Outcome(
        code: code, output: shown, errors: "", seconds: 0, isTimedOut: false, arguments: ["on a terminal:", row] + verb)
    )
  }

  /// Calls everything that prints, on terminals.
  func look(_ row: String) throws {
    let programs = try printing.map { verb in
      (verb, try Attached(["\(Checkout.programs)/hengectl"] + verb, environment: sandbox.environment, size: (300, 50)))
    }
    for (verb, attached) in programs {
      let code = try attached.finish(seconds: 60)
      #expect(!attached.output.isEmpty, "\(row): \(verb)")
      try checkTerminal(row, verb, code, attached.output)
    }
    let live = try sandbox.attach("top", "--delay", "0.1", machine)
    try live.expect("MACHINE")
    try live.expect(machine)
    live.send("q")
    #expect(try live.finish(seconds: 60) == 0, "\(live.output)")
    try checkTerminal(row, ["top"], 0, live.output)
  }
}
