import Glibc
import Testing

@testable import Systemd

/// A notify socket, and a socket that is connected to it.
private final class Line {
  let socket: NotifySocket
  let sender: Int32
  let folder: TemporaryFolder

  init(sender pid: Int32? = getpid()) throws {
    folder = try TemporaryFolder()
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array("\(folder.path)/notify".utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let type = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue)
    let receiver = Glibc.socket(AF_UNIX, type, 0)
    let connected = Glibc.socket(AF_UNIX, type, 0)
    sender = connected
    let results = withUnsafeBytes(of: &address) { raw in
      raw.withMemoryRebound(to: sockaddr.self) { address in
        [
          bind(receiver, address.baseAddress, socklen_t(raw.count)),
          connect(connected, address.baseAddress, socklen_t(raw.count)),
        ]
      }
    }
    try #require(results == [0, 0])
    socket = try NotifySocket(descriptor: receiver, sender: pid)
  }

  deinit {
    close(sender)
    unlink("\(folder.path)/notify")
  }

  func send(_ text: String) {
    let bytes = Array(text.utf8)
    #expect(Glibc.send(sender, bytes, bytes.count, Int32(MSG_DONTWAIT)) == bytes.count)
  }
}

@Suite struct NotifySocketTests {
  @Test func messagesComeInOrderWithTheirSender() throws {
    let line = try Line()
    #expect(try line.socket.receive().isEmpty)
    line.send("STATUS=one")
    line.send("READY=1")
    let messages = try line.socket.receive()
    #expect(messages.map(\.message.status) == ["one", nil])
    #expect(messages.last?.message.isReady == true)
    #expect(messages.map(\.pid) == [getpid(), getpid()])
    #expect(messages.map(\.uid) == [getuid(), getuid()])
  }

  @Test func otherSendersAreDroppedAndTheQueueIsEmptiedAllTheSame() throws {
    let line = try Line(sender: 1)
    line.send("READY=1")
    line.send("READY=1")
    #expect(try line.socket.receive().isEmpty)
    #expect(line.socket.dropped == 2)
    line.socket.sender = nil
    line.send("READY=1")
    #expect(try line.socket.receive().isEmpty)
    line.socket.sender = getpid()
    line.send("READY=1")
    #expect(try line.socket.receive().count == 1)
  }

  @Test func largeDatagramsAreDropped() throws {
    let line = try Line()
    line.send("READY=1\n" + String(repeating: "x", count: NotifyMessage.sizeLimit))
    line.send("STATUS=" + String(repeating: "x", count: NotifyMessage.sizeLimit - 7))
    let messages = try line.socket.receive()
    #expect(messages.map(\.message.isReady) == [false])
    #expect(line.socket.dropped == 1)
  }

  @Test func oneTurnTakesNoMoreThanItsShare() throws {
    let line = try Line()
    for number in 0..<5 { line.send("STATUS=\(number)") }
    #expect(try line.socket.receive(limit: 3).count == 3)
    #expect(try line.socket.receive(limit: 3).map(\.message.status) == ["3", "4"])
  }

  @Test func descriptorsThatComeAlongDoNotStay() throws {
    let line = try Line()
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/passed"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    #expect(descriptors(to: path) == 1)
    send("STATUS=many", to: line.sender, with: [Int32](repeating: descriptor, count: 200))
    send("STATUS=one", to: line.sender, with: [descriptor])
    let messages = try line.socket.receive()
    #expect(messages.map(\.message.status) == ["many", "one"])
    #expect(messages.map(\.pid) == [getpid(), getpid()])
    #expect(descriptors(to: path) == 1)
    close(descriptor)
    unlink(path)
  }

  @Test func notificationsStayOnOneLine() {
    #expect(ServiceNotification.oneLine("a\nREADY=1\r\0b") == "a READY=1  b")
  }
}
