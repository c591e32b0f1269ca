import CLinux
import Glibc
import Linux
import StageProtocol

/// A listening socket and the connections that came through it.
final class StreamListener: Listener {
  let socket: Descriptor
  let targets: [RelayTarget]
  private unowned let relay: Relay
  private var streams: [ObjectIdentifier: Stream] = [:]

  init(_ socket: Descriptor, targets: [RelayTarget], of relay: Relay) {
    self.socket = socket
    self.targets = targets
    self.relay = relay
  }

  let hasSessions = false

  func sweep(before time: UInt64) {}

  func isReady(_ events: UInt32, at descriptor: Int32) {
    // Others want their turn, too.
    for _ in 0..<64 {
      var isV4 = false
      let connection = clinux_inet_accept(socket.raw, &isV4)
      guard connection >= 0 else {
        if errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM { relay.starve(self) }
        return
      }
      relay.count(.connections)
      relay.count(.open)
      // A service that speaks only the other family is found there.
      let preferred = targets.filter { ($0.address.count == 4) == isV4 }
      let others = targets.filter { ($0.address.count == 4) != isV4 }
      let stream = Stream(Descriptor(adopting: connection), targets: preferred + others, of: relay, from: self)
      streams[ObjectIdentifier(stream)] = stream
      stream.begin()
    }
  }

  func remove(_ stream: Stream) {
    guard streams.removeValue(forKey: ObjectIdentifier(stream)) != nil else { return }
    relay.count(.open, -1)
    relay.feed()
  }

  func close() {
    for stream in streams.values { stream.end() }
    streams = [:]
  }
}

/// One connection: two sockets, and what is on its way between them.
final class Stream: Waiter {
  private unowned let relay: Relay
  private unowned let listener: StreamListener
  private let outside: Descriptor
  private var inside: Descriptor?
  private var targets: ArraySlice<RelayTarget>
  private var isConnected = false
  private var isEnded = false
  private var inward = Flow()
  private var outward = Flow()

  init(_ outside: Descriptor, targets: [RelayTarget], of relay: Relay, from listener: StreamListener) {
    self.outside = outside
    self.targets = targets[...]
    self.relay = relay
    self.listener = listener
  }

  func begin() {
    var on: Int32 = 1
    setsockopt(outside.raw, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
    _ = clinux_inet_no_delay(outside.raw)
    connectNext()
    guard !isEnded else { return }
    let all = Relay.readable | Relay.writable | Relay.readHangUp | Relay.edge
    if !relay.watch(outside.raw, all, self) { end() }
  }

  private func connectNext() {
    while let target = targets.popFirst() {
      let number = clinux_inet_socket(target.address.count, false)
      // Without a descriptor left there is nothing to be done for this one.
      guard number >= 0 else { continue }
      let socket = Descriptor(adopting: number)
      _ = clinux_inet_no_delay(socket.raw)
      let result = clinux_inet_connect(socket.raw, target.address, target.address.count, UInt32(target.port))
      guard result == 0 || errno == EINPROGRESS else { continue }
      inside = socket
      isConnected = result == 0
      let all = Relay.readable | Relay.writable | Relay.readHangUp | Relay.edge
      if relay.watch(socket.raw, all, self) { return }
      inside = nil
    }
    relay.count(.refused)
    // So that the client sees a connection that is reset, and not one that ended in good order.
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(outside.raw, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
    end()
  }

  func isReady(_ events: UInt32, at descriptor: Int32) {
    guard !isEnded, let inside else { return }
    if !isConnected {
      guard descriptor == inside.raw else { return }
      guard clinux_inet_error(inside.raw) == 0 else {
        relay.forget(inside.raw)
        self.inside = nil
        return connectNext()
      }
      // The first event may be of a socket that is not under way at all yet.
      guard events & Relay.writable != 0 else { return }
      isConnected = true
    }
    goOn()
  }

  /// Moves what there is, in both directions, up to a bound.
  func goOn() {
    guard !isEnded, isConnected, let inside else { return }
    let (first, second) = (outside.raw, inside.raw)
    let isInwardWell = inward.move(from: first, to: second, counter: .bytesIn, relay)
    let isOutwardWell = outward.move(from: second, to: first, counter: .bytesOut, relay)
    if !isInwardWell || !isOutwardWell || inward.isDone && outward.isDone { return end() }
    if inward.hasMore || outward.hasMore { relay.unfinished.append(self) }
  }

  func end() {
    guard !isEnded else { return }
    isEnded = true
    relay.forget(outside.raw)
    if let inside { relay.forget(inside.raw) }
    inside = nil
    inward.end(relay)
    outward.end(relay)
    listener.remove(self)
  }
}

/// One direction of a connection.
private struct Flow {
  private var pipe: Pipe?
  private var held = 0
  private var isAtEnd = false
  /// Its end has been passed on.
  private(set) var isDone = false
  /// It stopped because of the bound, not because there was nothing.
  private(set) var hasMore = false

  /// - Returns: false when one of the two is broken.
  mutating func move(from: Int32, to: Int32, counter: RelayCounter, _ relay: Relay) -> Bool {
    hasMore = false
    if isDone { return true }
    for _ in 0..<8 {
      if held == 0, !isAtEnd {
        guard let pipe = pipe ?? relay.pipes.take() else { return false }
        self.pipe = pipe
        let count = clinux_splice(from, pipe.input.raw, PipePool.size, false)
        if count < 0 {
          guard errno == EAGAIN else { return false }
          // An idle connection holds no pipe.
          end(relay)
          return true
        }
        if count == 0 { isAtEnd = true }
        held = count
      }
      if held > 0, let pipe {
        let count = clinux_splice(pipe.output.raw, to, held, false)
        if count < 0 { return errno == EAGAIN }
        held -= count
        relay.count(counter, count)
        if held > 0 { return true }
      }
      if isAtEnd, held == 0 {
        shutdown(to, Int32(SHUT_WR))
        isDone = true
        end(relay)
        return true
      }
    }
    hasMore = true
    return true
  }

  mutating func end(_ relay: Relay) {
    // One with something in it is of no use to another connection.
    if let pipe, held == 0 { relay.pipes.giveBack(pipe) }
    pipe = nil
  }
}

/// Pipes are dear: they are lent to a connection while something is on its way.
final class PipePool {
  /// A splice through a larger one costs the cache more than it saves in calls.
  static let size = 256 << 10

  private var free: [Pipe] = []

  func take() -> Pipe? {
    if let pipe = free.popLast() { return pipe }
    return try? Pipe(size: Int32(Self.size))
  }

  func giveBack(_ pipe: Pipe) {
    if free.count < 64 { free.append(pipe) }
  }
}
