import Glibc
import Systemd
import Testing

/// A direct connection whose other end the test plays.
final class BusPeer {
  let loop: EventLoop
  let bus: Bus
  static let authentication = Array("DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n".utf8)
  let socket: Int32
  private var serial: UInt32 = 0

  init(authenticated: Bool = true) throws {
    loop = try EventLoop()
    var ends: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    socket = ends[1]
    bus = try Bus(descriptor: ends[0], kind: .direct, on: loop)
    if authenticated { send(Self.authentication) }
  }

  deinit { close(socket) }

  @discardableResult
  func send(_ bytes: [UInt8]) -> Int {
    Glibc.send(socket, bytes, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
  }

  func shutDown() { shutdown(socket, Int32(SHUT_RDWR)) }

  /// Everything that the bus has sent; nil once it has closed.
  func received() -> [UInt8]? {
    var all: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = recv(socket, &piece, piece.count, Int32(MSG_DONTWAIT))
      if count == 0 { return all.isEmpty ? nil : all }
      if count < 0 { return all }
      all.append(contentsOf: piece.prefix(count))
    }
  }

  /// Answers the n-th call of the connection.
  func reply(to call: UInt32, signature: String = "", _ body: (inout Wire) -> Void = { _ in }) {
    serial += 1
    send(Wire.message(type: 2, serial: serial, replyTo: call, signature: signature, body))
  }

  func fail(call: UInt32, _ name: String, _ text: String) {
    serial += 1
    send(Wire.message(type: 3, serial: serial, replyTo: call, error: name, signature: "s") { $0.string(text) })
  }

  func signal(_ path: String, _ interface: String, _ member: String, _ signature: String, _ body: (inout Wire) -> Void)
  {
    serial += 1
    send(
      Wire.message(
        type: 4, serial: serial, path: path, interface: interface, member: member, signature: signature, body))
  }

  /// Turns the loop until something holds, at most five seconds for each turn.
  func run(until done: () -> Bool) throws {
    while !done() {
      guard try loop.runOnce(timeout: 5_000_000) else { return }
    }
  }

  /// Turns the loop until nothing is left to do.
  func settle() throws {
    while try loop.runOnce(timeout: 20_000) {}
  }
}
