import Glibc
import Testing
import Varlink

/// Two connected sockets: the client's end goes to the client, the other one is the test's.
private struct Pair: ~Copyable {
  let client: VarlinkClient
  let peer: Int32

  init(limit: Int = 1 << 20) throws {
    var ends: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    client = VarlinkClient(descriptor: ends[0], limit: limit)
    peer = ends[1]
  }

  deinit { close(peer) }

  /// The answers may be sent first: the socket keeps them until the call is made.
  func answer(_ replies: VarlinkReply...) {
    for reply in replies { answer(reply.frame) }
  }

  func answer(_ bytes: [UInt8]) {
    #expect(send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count)
  }

  func received() throws -> VarlinkMessage {
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = recv(peer, &bytes, bytes.count, Int32(MSG_DONTWAIT))
    try #require(count > 0)
    return try VarlinkMessage(parsing: Array(bytes.prefix(count - 1)))
  }
}

@Suite struct VarlinkClientTests {
  @Test func aCallIsSentAndAnswered() throws {
    let pair = try Pair()
    pair.answer(VarlinkReply(parameters: ["result": 42]))
    #expect(try pair.client.call("org.example.Ask", ["question": "?"], timeout: 1000) == ["result": 42])
    #expect(try pair.received() == .call(VarlinkCall(method: "org.example.Ask", parameters: ["question": "?"])))
  }

  @Test func anErrorKeepsTheConnection() throws {
    let pair = try Pair()
    pair.answer(VarlinkReply(parameters: ["a": 1], error: "org.example.Bad"), VarlinkReply())
    #expect(throws: VarlinkError("org.example.Bad", ["a": 1])) {
      try pair.client.call("org.example.Ask", timeout: 1000)
    }
    #expect(try pair.client.call("org.example.Ask", timeout: 1000) == [:])
  }

  @Test func severalRepliesEndWithTheLast() throws {
    let pair = try Pair()
    pair.answer(
      VarlinkReply(parameters: ["n": 1], continues: true), VarlinkReply(parameters: ["n": 2], continues: true),
      VarlinkReply(parameters: ["n": 3]), VarlinkReply(parameters: ["n": 4]))
    var numbers: [Int64?] = []
    try pair.client.callMore("org.example.Watch", timeout: 1000) {
      numbers.append($0["n"]?.intValue)
      return true
    }
    #expect(numbers == [1, 2, 3])
    #expect(try pair.client.call("org.example.Ask", timeout: 1000) == ["n": 4])
  }

  @Test func leavingEarlyClosesTheConnection() throws {
    let pair = try Pair()
    pair.answer(VarlinkReply(continues: true), VarlinkReply())
    try pair.client.callMore("org.example.Watch", timeout: 1000) { _ in false }
    #expect(throws: VarlinkFailure.closed) { try pair.client.call("org.example.Ask") }
  }

  @Test func silenceTimesOut() throws {
    let pair = try Pair()
    pair.answer(Array("{\"parameters\":".utf8))
    #expect(throws: VarlinkFailure.timedOut(method: "org.example.Ask")) {
      try pair.client.call("org.example.Ask", timeout: 30)
    }
    #expect(throws: VarlinkFailure.closed) { try pair.client.call("org.example.Ask") }
  }

  @Test func aPeerThatDoesNotReadTimesOut() throws {
    let pair = try Pair()
    let text = JSON.string(String(repeating: "a", count: 8 << 20))
    #expect(throws: VarlinkFailure.timedOut(method: "org.example.Ask")) {
      try pair.client.call("org.example.Ask", ["text": text], timeout: 30)
    }
  }

  @Test func aCutOffReplyIsAHangUp() throws {
    let pair = try Pair()
    pair.answer(Array("{\"parameters\":".utf8))
    shutdown(pair.peer, Int32(SHUT_WR))
    #expect(throws: VarlinkFailure.hangUp(method: "org.example.Ask")) { try pair.client.call("org.example.Ask") }
  }

  @Test(arguments: [
    "garbage", "[]", "{\"method\":\"a.b\"}", "{\"parameters\":1}", "{\"error\":1}", "{\"continues\":true}",
  ])
  func nonsenseIsMalformed(_ text: String) throws {
    let pair = try Pair()
    pair.answer(Array(text.utf8) + [0])
    let error = #expect(throws: VarlinkFailure.self) { try pair.client.call("org.example.Ask", timeout: 1000) }
    guard case .malformed = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func anEndlessReplyIsCutOff() throws {
    let pair = try Pair(limit: 1000)
    pair.answer([UInt8](repeating: 0x20, count: 2000))
    let error = #expect(throws: VarlinkFailure.self) { try pair.client.call("org.example.Ask", timeout: 1000) }
    guard case .malformed = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func badPathsAreRefused() {
    for path in ["", "a\0b", String(repeating: "a", count: 108)] {
      #expect(throws: VarlinkFailure.badPath(path)) { try VarlinkClient(connectingTo: path) }
    }
    #expect(throws: VarlinkFailure.system(call: "connect", errno: ENOENT)) {
      try VarlinkClient(connectingTo: "/nonexistent/socket")
    }
  }
}
