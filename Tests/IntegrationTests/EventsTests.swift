import Glibc
import Linux
import Testing
import Varlink

/// Reads `hengectl events --follow --json` as it comes.
final class EventReader {
  private let program: Pidfd
  private let output: Descriptor
  private let machine: String?
  private var rest: [UInt8] = []

  /// Begins to listen; what happens from here on is seen.
  init(_ sandbox: Sandbox, _ machine: String? = nil) throws {
    self.machine = machine
    let pair = try SocketPair(packets: false)
    output = pair.first
    let request = ProcessRequest(
      .path("\(Checkout.programs)/hengectl"),
      arguments: ["hengectl", "events", "--follow", "--json", "--lines", "1"], environment: sandbox.environment,
      descriptors: [nil, pair.second, nil])
    program = try request.start().process
    // The last event that was there before shows that it listens.
    _ = try nextEvent(before: now() + 10_000_000_000)
  }

  /// Waits for an event of the machine, passing over others.
  ///
  /// - Returns: false when none came in time.
  func next(_ event: String, within seconds: Double = 30) throws -> Bool {
    try find(within: seconds) { $0["event"]?.stringValue == event } != nil
  }

  func find(within seconds: Double = 30, _ isWanted: (JSON) -> Bool) throws -> JSON? {
    let end = now() + UInt64(seconds * 1e9)
    while let found = try nextEvent(before: end) {
      if let machine, found["machine"]?.stringValue != machine { continue }
      if isWanted(found) { return found }
    }
    return nil
  }

  private func nextEvent(before end: UInt64) throws -> JSON? {
    while true {
      if let index = rest.firstIndex(of: 0x0a) {
        let line = Array(rest[..<index])
        rest.removeFirst(index + 1)
        return try JSON(parsing: line)
      }
      let moment = now()
      var poll = pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0)
      guard moment < end, Glibc.poll(&poll, 1, Int32((end - moment) / 1_000_000) + 1) > 0 else { return nil }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = Glibc.read(output.raw, &buffer, buffer.count)
      guard count > 0 else { return nil }
      rest += buffer[..<count]
    }
  }

  deinit {
    _ = try? program.signal(SIGTERM)
    _ = try? program.reap(wait: true)
  }
}

@Suite("Events", .serialized)
struct EventsTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyChangeIsALineForWhoeverFollows() throws {
    try withSandbox("events") { sandbox in
      try sandbox.image("trixie")
      let (first, clone, renamed) = (sandbox.name("a"), sandbox.name("b"), sandbox.name("c"))
      try sandbox.succeed("create", "trixie", first)
      let events = try EventReader(sandbox)
      var seen: [String] = []
      func expect(_ machine: String, _ event: String, _ key: String? = nil, _ value: JSON? = nil) throws {
        let found = try events.find(within: 20) {
          $0["machine"]?.stringValue == machine && $0["event"]?.stringValue == event
        }
        #expect(found != nil, "\(event) of \(machine)")
        if let key { #expect(found?["details"]?[key] == value, "\(found?.compact ?? "nothing")") }
        seen.append(event)
      }
      try sandbox.succeed("start", first)
      for event in ["starting", "booting", "running"] { try expect(first, event) }
      try sandbox.succeed("freeze", first)
      try sandbox.succeed("thaw", first)
      for event in ["frozen", "thawed"] { try expect(first, event) }
      try sandbox.succeed("poweroff", first)
      try expect(first, "stopping", "by", "operator")
      try expect(first, "stopped")
      // Machines that were not there when the following began.
      try sandbox.succeed("clone", first, clone)
      try expect(clone, "cloned", "from", .string(first))
      try sandbox.succeed("rename", clone, renamed)
      try expect(clone, "renamed", "to", .string(renamed))
      try sandbox.succeed("start", renamed)
      try expect(renamed, "running")
      let guest = try sandbox.guest(renamed)
      kill(guest.leader, SIGKILL)
      try expect(renamed, "crashed", "signal", 9)
      try expect(renamed, "stopped")
      try sandbox.succeed("remove", renamed)
      try expect(renamed, "removed")

      // Afterwards all of it is known still, in order, and in both forms.
      let lines = try sandbox.succeed("events").split(separator: "\n")
      let told = try sandbox.succeed("events", "--json").split(separator: "\n").map { try JSON(parsing: String($0)) }
      #expect(lines.count == told.count && told.count > seen.count)
      let times = told.compactMap { $0["time"]?.intValue }
      #expect(times == times.sorted() && times.count == told.count)
      let words = Set(told.compactMap { $0["event"]?.stringValue })
      #expect(words.isSuperset(of: seen + ["created"]))
      let ofClone = try sandbox.succeed("events", renamed, "--lines", "100").split(separator: "\n")
      #expect(ofClone.first?.contains("renamed") ?? false)
      #expect(ofClone.last?.hasSuffix("removed") ?? false)
      #expect(try sandbox.succeed("events", "--lines", "1", first).contains("stopped") == false, "the clone came later")
      #expect(try sandbox.succeed("events", "--lines", "0") == "")
      #expect(try sandbox.hengectl("events", "../etc").code == 2)
    }
  }

  /// A reader that goes away ends the following at once, not with the next event.
  @Test(.needsRoot, .needsPrograms)
  func whoFollowsEndsWithItsReader() throws {
    try withSandbox("reader") { sandbox in
      let line = "\"$0\" events --follow | true; echo ended"
      let outcome = try run(
        ["sh", "-c", line, "\(Checkout.programs)/hengectl"], environment: sandbox.environment, deadline: 10)
      #expect(outcome.text == "ended" && outcome.seconds < 5, "\(outcome)")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aMachinesWordsDoNoHarmInEvents() throws {
    try withSandbox("words") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("words", root: try sandbox.makeRoot("root", mode: "escape-exit"))
      #expect(try sandbox.hengectl("start", machine).code == 1)
      let outcome = try sandbox.hengectl("events", machine)
      expectHarmless(outcome)
      #expect(outcome.output.contains("crashed") && outcome.output.contains("exit=7"))
      for line in try sandbox.succeed("events", "--json").split(separator: "\n") {
        #expect((try? JSON(parsing: String(line))) != nil, "\(line)")
      }
      try sandbox.drop("words")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aUnitIsWaitedForAndItsEndIsExplained() throws {
    try withSandbox("units") { sandbox in
      for image in ["bullseye", "bookworm", "trixie", "forky"] {
        try sandbox.image(image)
        let name = sandbox.name(image)
        try sandbox.succeed("create", image, name)
        expectRefusal(try sandbox.hengectl("wait", name, "--for", "dbus"), code: 1, "not running")
        try sandbox.succeed("start", name)
        let guest = try sandbox.guest(name)
        #expect(
          try sandbox.succeed("wait", name, "--for", "dbus", "--timeout", "10") == "dbus.service of \(name) is active")
        #expect(
          try sandbox.hengectl("wait", name, "--for", "multi-user.target", "--json").json()["active"] == "active")
        let missing = try sandbox.hengectl("wait", name, "--for", "no-such-unit", "--timeout", "10")
        expectRefusal(missing, code: 1, "no-such-unit.service", "there is no such unit")
        #expect(missing.seconds < 8)
        #expect(try sandbox.hengectl("wait", name, "--for", "a/b.service").code == 2)
        // One that rests, until somebody starts it.
        expectRefusal(
          try sandbox.hengectl("wait", name, "--for", "rescue.target", "--timeout", "0.3"), code: 124, "time was over")

        // One that comes up while it is waited for, and one that fails meanwhile.
        try unit(guest, "late", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0.5")
        try unit(guest, "once", "Type=oneshot\nExecStart=/bin/sleep 0.5")
        try unit(guest, "bad", "Type=oneshot\nExecStart=/bin/sh -c 'sleep 0.5; echo these are the last words; exit 7'")
        try unit(guest, "shot", "Type=oneshot\nExecStart=/bin/sh -c 'sleep 0.5; kill -9 $$$$'")
        try guest.succeed("systemctl", "daemon-reload")
        for (unit, code, words) in [
          ("late", Int32(0), ["late.service of \(name) is active"]), ("once", 0, ["once.service of \(name) is done"]),
          ("bad", 1, ["it failed by 'exit-code'", "with status 7", "these are the last words"]),
          ("shot", 1, ["it failed by 'signal'", "by signal 9"]),
        ] {
          let waiter = try sandbox.start(["wait", name, "--for", unit, "--timeout", "20"])
          try waiter.untilItAsked()
          // It is not there before nor after: only who watches by now sees it.
          try guest.succeed("systemctl", "start", "--no-block", unit)
          while unit == "once", waiter.isRunning { try guest.succeed("systemctl", "start", unit) }
          let outcome = try waiter.wait(deadline: 30)
          #expect(outcome.code == code, "\(image): \(outcome)")
          for word in words { #expect((outcome.output + outcome.errors).contains(word), "\(image): \(outcome)") }
          if code == 1 { expectRefusal(outcome, code: 1) }
        }
        // The machine's end is the end of the waiting.
        let waiter = try sandbox.start(["wait", name, "--for", "rescue.target"])
        try waiter.untilItAsked()
        try sandbox.succeed("poweroff", name)
        expectRefusal(try waiter.wait(deadline: 10), code: 1)
      }
    }
  }

  private func unit(_ guest: Guest, _ name: String, _ service: String) throws {
    try guest.succeed(
      "sh", "-c", "printf '%s\\n' \"$2\" > \"/etc/systemd/system/$1.service\"", "sh", name, "[Service]\n\(service)")
  }
}
