import CLinux
import Glibc
import Linux
import StageProtocol

/// A bound socket, and for each who sends to it a socket of his own at the other end: that is how answers find back.
final class DatagramListener: Listener {
  let socket: Descriptor
  private let targets: [RelayTarget]
  private unowned let loop: RelayLoop
  private var sessions: [Key: Session] = [:]
  private var buffer = [UInt8](repeating: 0, count: 65536)

  /// As many as fit well into the descriptors of a process.
  private static let limit = 4096

  init(_ socket: Descriptor, targets: [RelayTarget], of loop: RelayLoop) {
    self.socket = socket
    self.targets = targets
    self.loop = loop
  }

  var hasSessions: Bool { !sessions.isEmpty }

  func isReady(_ events: UInt32, at descriptor: Int32) {
    for _ in 0..<64 {
      var peer = clinux_inet_peer()
      let count = clinux_inet_receive_from(socket.raw, &buffer, buffer.count, &peer)
      guard count >= 0 else { return }
      guard let session = session(for: peer) else { continue }
      session.lastUse = loop.time
      if send(session.socket.raw, buffer, count, Int32(MSG_NOSIGNAL)) >= 0 {
        loop.count(.datagrams)
        loop.count(.bytesIn, count)
      }
    }
  }

  private func session(for peer: clinux_inet_peer) -> Session? {
    let key = Key(peer)
    if let session = sessions[key] { return session }
    guard sessions.count < Self.limit else { return nil }
    let isV4 = peer.is_v6 == 0 || peer.is_mapped != 0
    guard let target = targets.first(where: { ($0.address.count == 4) == isV4 }) ?? targets.first else { return nil }
    let number = clinux_inet_socket(target.address.count, true)
    guard number >= 0 else { return nil }
    let socket = Descriptor(adopting: number)
    guard clinux_inet_connect(socket.raw, target.address, target.address.count, UInt32(target.port)) == 0 else {
      return nil
    }
    let session = Session(socket, peer: peer, listener: self)
    guard loop.watch(socket.raw, RelayLoop.readable, session) else { return nil }
    sessions[key] = session
    return session
  }

  fileprivate func answer(_ session: Session) {
    for _ in 0..<64 {
      let count = recv(session.socket.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
      guard count >= 0 else { return }
      session.lastUse = loop.time
      if clinux_inet_send_to(socket.raw, buffer, count, &session.peer) >= 0 {
        loop.count(.datagrams)
        loop.count(.bytesOut, count)
      }
    }
  }

  func sweep(before time: UInt64) {
    for (key, session) in sessions where session.lastUse < time {
      loop.forget(session.socket.raw)
      sessions[key] = nil
    }
  }

  func close() {
    for session in sessions.values { loop.forget(session.socket.raw) }
    sessions = [:]
  }

  /// All of a peer's bytes: who, and to which address of ours.
  private struct Key: Hashable {
    private let words: (UInt64, UInt64, UInt64, UInt64, UInt64)

    init(_ peer: clinux_inet_peer) {
      words = withUnsafeBytes(of: peer) { bytes in
        func word(_ index: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self) }
        return (word(0), word(1), word(2), word(3), word(4))
      }
    }

    static func == (left: Key, right: Key) -> Bool { left.words == right.words }

    func hash(into hasher: inout Hasher) {
      hasher.combine(words.0)
      hasher.combine(words.1)
      hasher.combine(words.4)
    }
  }

  fileprivate final class Session: Waiter {
    let socket: Descriptor
    var peer: clinux_inet_peer
    private unowned let listener: DatagramListener
    var lastUse: UInt64 = 0

    init(_ socket: Descriptor, peer: clinux_inet_peer, listener: DatagramListener) {
      self.socket = socket
      self.peer = peer
      self.listener = listener
    }

    func isReady(_ events: UInt32, at descriptor: Int32) { listener.answer(self) }
  }
}
