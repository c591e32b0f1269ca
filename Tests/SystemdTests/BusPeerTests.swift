import Glibc
import Testing

@testable import Systemd

private let manager = "org.freedesktop.systemd1.Manager"
private let path = "/org/freedesktop/systemd1"

@Suite struct BusPeerTests {
  @Test func aSilentPeerTimesOut() throws {
    for authenticated in [false, true] {
      let peer = try BusPeer(authenticated: authenticated)
      var results: [Result<String, BusError>] = []
      Manager(bus: peer.bus, timeout: 30_000).systemState { results.append($0) }
      try peer.run { !results.isEmpty }
      try peer.settle()
      try #require(results.count == 1)
      #expect(throws: BusError.self) { try results[0].get() }
      if case .failure(let error) = results[0] { #expect(error.isTimeout) }
      #expect(peer.bus.isOpen)
    }
  }

  @Test func aLateAnswerIsDropped() throws {
    let peer = try BusPeer()
    var count = 0
    Manager(bus: peer.bus, timeout: 1_000).systemState { _ in count += 1 }
    try peer.run { count > 0 }
    peer.reply(to: 1, signature: "v") {
      $0.signature("s")
      $0.string("running")
    }
    try peer.settle()
    #expect(count == 1 && peer.bus.isOpen)
  }

  @Test func propertiesAreRead() throws {
    let peer = try BusPeer()
    let manager = Manager(bus: peer.bus)
    var state: Result<String, BusError>?
    var progress: Result<Double, BusError>?
    var jobs: Result<UInt32, BusError>?
    manager.systemState { state = $0 }
    manager.progress { progress = $0 }
    manager.jobCount { jobs = $0 }
    try peer.settle()
    peer.reply(to: 1, signature: "v") {
      $0.signature("s")
      $0.string("running")
    }
    peer.reply(to: 2, signature: "v") {
      $0.signature("d")
      $0.long(Double.nan.bitPattern)
    }
    peer.reply(to: 3, signature: "v") {
      $0.signature("s")
      $0.string("not a number")
    }
    try peer.run { jobs != nil }
    #expect(try state?.get() == "running")
    #expect(try progress?.get() == 0)
    #expect(throws: BusError.self) { try jobs?.get() }
    #expect(peer.bus.isOpen)
  }

  @Test func errorsAreBounded() throws {
    let peer = try BusPeer()
    var error: BusError?
    Manager(bus: peer.bus).powerOff { if case .failure(let failure) = $0 { error = failure } }
    try peer.settle()
    peer.fail(call: 1, "org.example.Bad", String(repeating: "é", count: 5000))
    try peer.run { error != nil }
    #expect(error?.name == "org.example.Bad")
    #expect(error?.message == String(repeating: "é", count: 2048))
  }

  @Test func unitListsAreBoundedAndSkipTheRest() throws {
    let peer = try BusPeer()
    var result: Result<[Manager.Unit], BusError>?
    Manager(bus: peer.bus).listFailedUnits { result = $0 }
    try peer.settle()
    let reply = Wire.message(type: 2, serial: 1, replyTo: 1, signature: "a(ssssssouso)") { wire in
      wire.array(alignment: 8) { wire in
        for number in 0..<10_050 {
          wire.align(8)
          for text in ["unit\(number).service", "a unit", "loaded", "failed", "failed", ""] { wire.string(text) }
          wire.string("/unit")
          wire.number(0)
          wire.string("")
          wire.string("/")
        }
      }
    }
    var rest = reply[...]
    while !rest.isEmpty, result == nil {
      rest = rest.dropFirst(max(peer.send(Array(rest)), 0))
      try peer.loop.runOnce(timeout: 1_000_000)
    }
    try peer.run { result != nil }
    let units = try #require(try result?.get())
    #expect(units.count == 10_000)
    #expect(units.last?.name == "unit9999.service" && units.last?.activeState == "failed")
    #expect(peer.bus.isOpen)
  }

  @Test func signalsArriveWithoutASubscriptionAtThePeer() throws {
    let peer = try BusPeer()
    var jobs: [Manager.RemovedJob] = []
    let match = try Manager(bus: peer.bus).jobRemoved { jobs.append($0) }
    peer.signal(path, manager, "JobRemoved", "uoss") {
      $0.number(7)
      $0.string("/job")
      $0.string("ssh.service")
      $0.string("done")
    }
    peer.signal(path, manager, "JobRemoved", "s") { $0.string("of another shape") }
    peer.signal("/elsewhere", manager, "JobRemoved", "s") { $0.string("x") }
    try peer.settle()
    #expect(jobs == [Manager.RemovedJob(id: 7, unit: "ssh.service", result: "done")])
    let sent = String(decoding: try #require(peer.received()), as: UTF8.self)
    #expect(sent.hasSuffix("BEGIN\r\n"))
    match.cancel()
    peer.signal(path, manager, "JobRemoved", "s") { $0.string("x") }
    try peer.settle()
    #expect(jobs.count == 1 && peer.bus.isOpen)
  }

  @Test func aHangUpCompletesEveryCall() throws {
    let peer = try BusPeer()
    var errors: [BusError] = []
    var order: [String] = []
    peer.bus.onDisconnect = { _ in order.append("gone") }
    for _ in 0..<3 {
      Manager(bus: peer.bus).systemState {
        order.append("call")
        if case .failure(let error) = $0 { errors.append(error) }
      }
    }
    try peer.settle()
    peer.shutDown()
    try peer.run { order.contains("gone") }
    #expect(errors.count == 3 && errors.allSatisfy(\.isDisconnected))
    #expect(order == ["call", "call", "call", "gone"])
    #expect(!peer.bus.isOpen)
    var late: BusError?
    Manager(bus: peer.bus).systemState { if case .failure(let error) = $0 { late = error } }
    #expect(late == nil)
    try peer.run { late != nil }
    #expect(late?.isDisconnected == true)
  }

  @Test func closingCompletesCallsAndClosesTheDescriptor() throws {
    let peer = try BusPeer()
    var errors: [Int32] = []
    var told = false
    peer.bus.onDisconnect = { _ in told = true }
    Manager(bus: peer.bus).systemState { if case .failure(let error) = $0 { errors.append(error.errno) } }
    let declined = Manager(bus: peer.bus).systemState { _ in errors.append(-1) }
    declined.cancel()
    try peer.settle()
    peer.bus.close()
    peer.bus.close()
    #expect(errors == [ECANCELED] && !told)
    _ = peer.received()
    #expect(peer.received() == nil)
  }

  @Test func closingFromACompletionIsSafe() throws {
    let peer = try BusPeer()
    var results = 0
    Manager(bus: peer.bus).systemState { _ in
      results += 1
      peer.bus.close()
    }
    Manager(bus: peer.bus).systemState { _ in results += 1 }
    try peer.settle()
    peer.reply(to: 1)
    try peer.settle()
    #expect(results == 2 && !peer.bus.isOpen)
  }

  @Test func garbageEndsTheConnection() throws {
    for authenticated in [false, true] {
      let peer = try BusPeer(authenticated: authenticated)
      var error: BusError?
      var call: BusError?
      peer.bus.onDisconnect = { error = $0 }
      Manager(bus: peer.bus).systemState { if case .failure(let failure) = $0 { call = failure } }
      peer.send([UInt8]("garbage\r\n\r\n\0".utf8) + [UInt8](repeating: 0xff, count: 100_000))
      try peer.run { error != nil }
      #expect(error != nil && call != nil)
    }
  }

  @Test(arguments: ["", "\r\n", "a\r\nb\r\n", "OK\r\n\r\n\r\n\r\n"])
  func whatFollowsTheAuthenticationDoesNotAbortUs(_ text: String) throws {
    for lines in 1...3 {
      let peer = try BusPeer(authenticated: false)
      var completed = false
      Manager(bus: peer.bus, timeout: 20_000).systemState { _ in completed = true }
      let answer = ["DATA\r\n", "OK 0123456789abcdef0123456789abcdef\r\n", "AGREE_UNIX_FD\r\n"].prefix(lines).joined()
      peer.send(Array((answer + text).utf8))
      try peer.run { completed }
      #expect(completed)
    }
  }

  @Test func descriptorsThatNobodyAskedForEndTheConnection() throws {
    let peer = try BusPeer()
    var error: BusError?
    peer.bus.onDisconnect = { error = $0 }
    try peer.settle()
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/passed"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    peer.send(Array("l".utf8))
    send("\u{4}", to: peer.socket, with: [Int32](repeating: descriptor, count: 100))
    try peer.run { error != nil }
    #expect(error?.errno == EPROTO)
    #expect(descriptors(to: path) == 1)
    close(descriptor)
    unlink(path)
  }

  @Test func randomMessagesNeverTrap() throws {
    var state: UInt64 = 3
    func random() -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33)
    }
    for _ in 0..<500 {
      let peer = try BusPeer()
      var completed = false
      Manager(bus: peer.bus, timeout: 1_000).listUnits { _ in completed = true }
      let match = try Manager(bus: peer.bus).jobRemoved { _ in }
      var bytes = Wire.message(type: 2, serial: 1, replyTo: 1, signature: "a(ssssssouso)") {
        $0.array(alignment: 8) { wire in
          for text in ["a", "b", "c", "d", "e", "f", "/g"] { wire.string(text) }
          wire.number(0)
          wire.string("h")
          wire.string("/i")
        }
      }
      for _ in 0..<2 { bytes[random() % bytes.count] = UInt8(truncatingIfNeeded: random()) }
      peer.send(bytes)
      try peer.run { completed }
      #expect(completed)
      match.cancel()
    }
  }

  @Test func anEndlessMessageIsCutOff() throws {
    let peer = try BusPeer()
    var error: BusError?
    peer.bus.onDisconnect = { error = $0 }
    try peer.settle()
    peer.send(
      Wire.message(
        type: 4, serial: 1, path: "/a", interface: "a.b", member: "C", signature: "ay", bodyLength: 100 << 20))
    var sent = 0
    let piece = [UInt8](repeating: 0, count: 1 << 20)
    while error == nil, sent < 100 << 20 {
      sent += max(peer.send(piece), 0)
      try peer.loop.runOnce(timeout: 1_000_000)
    }
    #expect(error?.errno == EMSGSIZE)
    #expect(sent <= Bus.messageLimit + (2 << 20))
  }

  @Test func manySmallMessagesAreNoEndlessOne() throws {
    let peer = try BusPeer()
    var count = 0
    let match = try peer.bus.match(member: "C") { _ in count += 1 }
    let message = Wire.message(type: 4, serial: 1, path: "/a", interface: "a.b", member: "C", signature: "s") {
      $0.string(String(repeating: "x", count: 60_000))
    }
    for _ in 0..<600 {
      #expect(peer.send(message) == message.count)
      try peer.loop.runOnce(timeout: 1_000_000)
      try peer.loop.runOnce(timeout: 0)
      try peer.loop.runOnce(timeout: 0)
    }
    try peer.settle()
    #expect(count == 600 && peer.bus.isOpen)
    match.cancel()
  }

  @Test func everyTypeCanBeAppended() throws {
    let peer = try BusPeer()
    var result: Result<Message, BusError>?
    peer.bus.call(
      "a.b", "/a", "a.b", "C",
      arguments: { message throws(BusError) in
        try message.append("text")
        try message.append(objectPath: "/a/b")
        try message.append(signature: "as")
        try message.append(true)
        try message.append(UInt8(1))
        try message.append(UInt32(2))
        try message.append(Int32(-3))
        try message.append(UInt64.max)
        try message.append(Int64.min)
        try message.append(1.5)
        try message.append(["one", "two"])
        try message.append(bytes: [1, 2, 3])
        try message.appendArray(of: "(sv)") { message throws(BusError) in
          try message.appendStruct(of: "sv") { message throws(BusError) in
            try message.append("name")
            try message.appendVariant(of: "u") { message throws(BusError) in try message.append(UInt32(1)) }
          }
        }
      }, completion: { result = $0 })
    try peer.settle()
    #expect(result == nil)
    let sent = String(decoding: try #require(peer.received()), as: UTF8.self)
    #expect(sent.contains("sogbyuitxdasaya(sv)"))
  }

  @Test(arguments: ["", "a", "/a/", "//", "/a\0b"])
  func badArgumentsFailTheCallLater(_ path: String) throws {
    let peer = try BusPeer()
    var error: BusError?
    peer.bus.call(
      "a.b", "/a", "a.b", "C",
      arguments: { message throws(BusError) in try message.append(objectPath: path) },
      completion: { if case .failure(let failure) = $0 { error = failure } })
    #expect(error == nil)
    try peer.run { error != nil }
    #expect(error?.errno == EINVAL)
  }
}
