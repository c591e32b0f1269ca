import Testing
import Varlink

private func service() -> VarlinkService {
  let service = VarlinkService(vendor: "v", product: "p", version: "1", url: "u")
  service.add(
    InterfaceDescription(
      name: "org.example",
      definitions: "method Echo(text: string) -> (text: string)\nmethod Watch() -> ()\nmethod None() -> ()"))
  service.method("org.example.Echo") { call, reply in
    guard let text = call.parameters["text"]?.stringValue else { throw VarlinkError.invalidParameter("text") }
    reply.finish(["text": .string(text)])
  }
  return service
}

/// Takes what waits to be sent, and reads it.
private func replies(_ connection: VarlinkConnection) throws -> [VarlinkReply] {
  var replies: [VarlinkReply] = []
  while !connection.output.isEmpty {
    var buffer = FrameBuffer()
    buffer.append(connection.output)
    connection.didSend(connection.output.count)
    while let frame = try buffer.next() {
      guard case .reply(let reply) = try VarlinkMessage(parsing: frame) else { continue }
      replies.append(reply)
    }
  }
  return replies
}

@Suite struct VarlinkConnectionTests {
  @Test func theServiceDescribesItself() throws {
    let connection = VarlinkConnection(service: service())
    connection.receive(VarlinkCall(method: "org.varlink.service.GetInfo").frame)
    connection.receive(
      VarlinkCall(method: "org.varlink.service.GetInterfaceDescription", parameters: ["interface": "org.example"]).frame
    )
    let answers = try replies(connection)
    #expect(answers.first?.parameters["interfaces"] == ["org.example", "org.varlink.service"])
    #expect(answers.last?.parameters["description"]?.stringValue?.hasPrefix("interface org.example\n") == true)
  }

  @Test(arguments: [
    ("org.example.Echo", VarlinkError.invalidParameter("text")),
    ("org.example.Gone", .methodNotFound("org.example.Gone")),
    ("org.example.None", .methodNotImplemented("org.example.None")), ("org.other.A", .interfaceNotFound("org.other")),
    ("nodot", .interfaceNotFound("")), ("", .interfaceNotFound("")), (".", .interfaceNotFound("")),
    ("org.varlink.service.GetInterfaceDescription", .invalidParameter("interface")),
  ])
  func wrongCallsAreRefusedByName(_ method: String, _ error: VarlinkError) throws {
    let connection = VarlinkConnection(service: service())
    connection.receive(VarlinkCall(method: method).frame)
    #expect(try replies(connection) == [VarlinkReply(parameters: error.parameters, error: error.name)])
    #expect(!connection.isClosed)
  }

  @Test func mismatchesAreFound() {
    let service = service()
    #expect(service.mismatches == ["org.example.None", "org.example.Watch"])
  }

  @Test func pipelinedCallsAreAnsweredInOrder() throws {
    let connection = VarlinkConnection(service: service())
    let calls = (0..<1000).flatMap { VarlinkCall(method: "org.example.Echo", parameters: ["text": "\($0)"]).frame }
    connection.receive(calls)
    // Nothing was sent yet, so only one answer takes up memory.
    #expect(connection.output.count < 100)
    #expect(!connection.wantsInput)
    #expect(try replies(connection).map { $0.parameters["text"]?.stringValue } == (0..<1000).map { "\($0)" })
    #expect(connection.wantsInput)
  }

  @Test func anAnswerMayComeLater() throws {
    let service = service()
    var kept: VarlinkResponder?
    service.method("org.example.Watch", needsMore: true) { _, reply in kept = reply }
    let connection = VarlinkConnection(service: service)
    var changes = 0
    connection.onChange = { changes += 1 }
    connection.receive(VarlinkCall(method: "org.example.Watch").frame)
    #expect(try replies(connection).first?.error == "org.varlink.service.ExpectedMore")
    connection.receive(
      VarlinkCall(method: "org.example.Watch", more: true).frame
        + VarlinkCall(method: "org.example.Echo", parameters: ["text": "next"]).frame)
    #expect(connection.output.isEmpty && !connection.wantsInput)
    kept?.send(["n": 1])
    #expect(changes == 1)
    kept?.finish(["n": 2])
    kept?.finish(["n": 3])
    #expect(
      try replies(connection) == [
        VarlinkReply(parameters: ["n": 1], continues: true), VarlinkReply(parameters: ["n": 2]),
        VarlinkReply(parameters: ["text": "next"]),
      ])
  }

  @Test func aForgottenAnswerClosesTheConnection() {
    let service = service()
    service.method("org.example.Watch") { _, _ in }
    let connection = VarlinkConnection(service: service)
    connection.receive(VarlinkCall(method: "org.example.Watch").frame)
    #expect(connection.isClosed)
  }

  @Test func aHangUpReachesWhoeverWorksOnTheAnswer() {
    let service = service()
    var kept: VarlinkResponder?
    var told = 0
    service.method("org.example.Watch") { _, reply in
      reply.onHangUp = { told += 1 }
      kept = reply
    }
    let connection = VarlinkConnection(service: service)
    connection.receive(VarlinkCall(method: "org.example.Watch", more: true).frame)
    connection.hangUp()
    connection.hangUp()
    #expect(told == 1 && connection.isClosed)
    kept?.send([:])
    #expect(kept?.isOpen == false && connection.output.isEmpty)
  }

  @Test func aSlowReaderIsCutOff() {
    let service = service()
    var kept: VarlinkResponder?
    service.method("org.example.Watch") { _, reply in kept = reply }
    let connection = VarlinkConnection(service: service, outputLimit: 1000)
    connection.receive(VarlinkCall(method: "org.example.Watch", more: true).frame)
    for _ in 0..<1000 where !connection.isClosed { kept?.send(["text": "some text"]) }
    #expect(connection.isClosed && connection.output.isEmpty)
    #expect(kept?.isOpen == false)
  }

  @Test func aOnewayCallIsNotAnswered() throws {
    let connection = VarlinkConnection(service: service())
    connection.receive(VarlinkCall(method: "org.example.Gone", oneway: true).frame)
    #expect(connection.output.isEmpty && !connection.isClosed && connection.wantsInput)
  }

  @Test func theEndOfInputLetsTheAnswerOut() throws {
    let connection = VarlinkConnection(service: service())
    connection.receive(VarlinkCall(method: "org.example.Echo", parameters: ["text": "a"]).frame)
    connection.receive([])
    #expect(!connection.isClosed)
    #expect(try replies(connection).count == 1)
    #expect(connection.isClosed)
  }

  @Test(arguments: ["garbage\0", "{}\0", "[]\0", "{\"method\":1}\0", "{\"method\":\"a\",\"more\":1}\0"])
  func nonsenseClosesTheConnection(_ text: String) {
    let connection = VarlinkConnection(service: service())
    connection.receive(Array(text.utf8))
    #expect(connection.isClosed)
  }

  @Test func anEndlessCallClosesTheConnection() {
    let connection = VarlinkConnection(service: service(), inputLimit: 100)
    connection.receive([UInt8](repeating: 0x20, count: 101))
    #expect(connection.isClosed)
  }
}
