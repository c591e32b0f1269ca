import Glibc
import Linux
import MachineSpec
import MachineStore
import Testing
import Varlink

private func withLog(_ body: (EventLog, Places) throws -> Void) throws {
  var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
  try check(mkdtemp(&template) == nil ? -1 : 0, "make", "a folder")
  let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer {
    _ = try? ProcessRequest(.path("/bin/rm"), arguments: ["rm", "-rf", "--", path]).start().process.reap(wait: true)
  }
  let places = Places(configuration: "\(path)/etc", state: "\(path)/state", runtime: "\(path)/run")
  try body(EventLog(places), places)
}

@Suite struct EventTests {
  @Test func whatWasToldIsReadInTheOrderOfTime() throws {
    try withLog { log, _ in
      let (one, two) = (try MachineName("one"), try MachineName("two"))
      #expect(try log.recent(count: 10).isEmpty)
      for (name, word) in [(one, "a"), (two, "b"), (one, "c")] { log.append(MachineEvent(name, word)) }
      log.append(MachineEvent(two, "cloned", details: ["from": "one", "units": ["x", "y"], "exit": 7]))
      #expect(try log.recent(count: 10).map(\.event) == ["a", "b", "c", "cloned"])
      #expect(try log.recent(count: 2).map(\.event) == ["c", "cloned"])
      #expect(try log.recent(["one"], count: 10).map(\.event) == ["a", "c", "cloned"])
      let last = try #require(try log.recent(count: 1).first)
      #expect(last.details["exit"] == 7 && last.details["units"] == ["x", "y"])
    }
  }

  @Test func hostileTextIsBoundedAndStaysOneLineOfJSON() throws {
    try withLog { log, _ in
      let evil = "\u{1b}[31m\n\u{0}\u{202e}\"\\" + String(repeating: "é", count: 100_000)
      log.append(MachineEvent(try MachineName("m"), "crashed", details: ["reason": .string(evil)]))
      let bytes = try Descriptor.open("\(log.path)/m").readAll(subject: "m")
      #expect(bytes.count < 2048 && bytes.filter { $0 == 0x0a }.count == 1)
      let event = try #require(try log.recent(count: 1).first)
      #expect(event.details["reason"]?.stringValue?.hasPrefix("\u{1b}[31m\n\u{0}\u{202e}\"\\éé") ?? false)
      let many = JSON.array((0..<1000).map { _ in .string("unit") })
      #expect(MachineEvent(try MachineName("m"), "x", details: ["units": many]).json.compact.utf8.count < 500)
    }
  }

  @Test func theFilesDoNotGrowAndNoMachinePushesOutAnothers() throws {
    try withLog { log, _ in
      let (loud, quiet) = (try MachineName("loud"), try MachineName("quiet"))
      log.append(MachineEvent(quiet, "created"))
      for number in 0..<3000 { log.append(MachineEvent(loud, "e", details: ["n": JSON(number)])) }
      var size: UInt64 = 0
      let folder = try Descriptor.open(log.path, .directory)
      for name in try folder.names() { size += try folder.status(of: name)?.size ?? 0 }
      #expect(size < 140 << 10)
      let events = try log.recent(count: .max)
      #expect(events.first?.event == "created")
      let numbers = events.compactMap { $0.details["n"]?.intValue }
      #expect(numbers.last == 2999 && numbers.count > 500)
      #expect(numbers == Array(numbers[0]...2999), "none is missing and none is twice")
    }
  }

  @Test func damagedFilesArePassedOver() throws {
    try withLog { log, _ in
      log.append(MachineEvent(try MachineName("m"), "a"))
      let folder = try Descriptor.open(log.path, .directory)
      try folder.replaceFile("n", with: Array("{\"time\":1,\"machine\":\"n\"\n\0\u{ff}garbage\n{}\n[]\n".utf8))
      mkfifo("\(log.path)/fifo", 0o600)
      symlink("/etc/passwd", "\(log.path)/link")
      #expect(try log.recent(count: 10).map(\.event) == ["a"])
    }
  }
}
