import Testing

@testable import Systemd

private let path = "/org/freedesktop/systemd1"

/// A systemd that the test plays is asked for a scope.
@Suite struct UnitJobTests {
  private final class Start {
    let peer: BusPeer
    let manager: Manager
    var results: [Result<Void, BusError>] = []
    var job: UnitJob?

    init(timeout: UInt64 = 5_000_000) throws {
      let peer = try BusPeer()
      let manager = Manager(bus: peer.bus)
      self.peer = peer
      self.manager = manager
      job = UnitJob(manager, unit: "m.scope", on: peer.loop, timeout: timeout) {
        manager.startTransientUnit(
          "m.scope", [UnitProperty("Delegate", .flag(true)), UnitProperty("PIDs", .numbers([7]))], $0)
      } completion: { [unowned self] in
        results.append($0)
      }
      try peer.settle()
    }

    func accept(_ id: UInt32) { peer.reply(to: 1, signature: "o") { $0.string("\(path)/job/\(id)") } }

    func remove(_ id: UInt32, _ unit: String, _ result: String) {
      peer.signal(path, "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss") {
        $0.number(id)
        $0.string("\(path)/job/\(id)")
        $0.string(unit)
        $0.string(result)
      }
    }
  }

  @Test func theEndOfTheOwnJobIsTheAnswer() throws {
    let start = try Start()
    let sent = String(decoding: try #require(start.peer.received()), as: UTF8.self)
    #expect(sent.contains("StartTransientUnit") && sent.contains("m.scope") && sent.contains("Delegate"))
    start.accept(40)
    start.remove(39, "m.scope", "canceled")
    start.remove(40, "other.scope", "failed")
    try start.peer.settle()
    #expect(start.results.isEmpty)
    start.remove(40, "m.scope", "done")
    start.remove(40, "m.scope", "failed")
    try start.peer.settle()
    try #require(start.results.count == 1)
    try start.results[0].get()
  }

  /// The signal may overtake the answer in which the job's number is.
  @Test func aJobThatEndsBeforeItsNumberIsKnown() throws {
    let start = try Start()
    start.remove(40, "m.scope", "failed")
    try start.peer.settle()
    #expect(start.results.isEmpty)
    start.accept(40)
    try start.peer.run { !start.results.isEmpty }
    #expect(throws: BusError.self) { try start.results.first?.get() }
  }

  @Test func aRefusalASilentPeerAndALostOneAreErrors() throws {
    let refused = try Start()
    refused.peer.fail(call: 1, "org.freedesktop.systemd1.UnitExists", "it is there")
    try refused.peer.run { !refused.results.isEmpty }
    if case .failure(let error) = refused.results.first {
      #expect(error.name == "org.freedesktop.systemd1.UnitExists")
    } else {
      Issue.record("no error")
    }

    let silent = try Start(timeout: 30_000)
    silent.accept(40)
    try silent.peer.run { !silent.results.isEmpty }
    if case .failure(let error) = silent.results.first { #expect(error.isTimeout) } else { Issue.record("no error") }

    let lost = try Start()
    lost.peer.shutDown()
    try lost.peer.run { !lost.results.isEmpty }
    #expect(throws: BusError.self) { try lost.results.first?.get() }

    let garbled = try Start()
    garbled.peer.reply(to: 1, signature: "o") { $0.string("/no/number") }
    try garbled.peer.run { !garbled.results.isEmpty }
    #expect(throws: BusError.self) { try garbled.results.first?.get() }
  }
}
