import CLinux
import Glibc
import Linux
import StageProtocol

/// A listening socket, whose connections go to the relay's threads.
final class StreamListener: Listener {
  let socket: Descriptor
  private let id: UInt32
  private let targets: [RelayTarget]
  private unowned let relay: Relay
  private let crew: RelayCrew
  private let own: StreamGroup

  init(_ id: UInt32, _ socket: Descriptor, targets: [RelayTarget], of relay: Relay, _ crew: RelayCrew) {
    self.id = id
    self.socket = socket
    self.targets = targets
    self.relay = relay
    self.crew = crew
    own = StreamGroup(relay.loop) { [unowned relay] in relay.load -= 1 }
  }

  let hasSessions = false

  func sweep(before time: UInt64) {}

  func isReady(_ events: UInt32, at descriptor: Int32) {
    var isLastTry = false
    // Others want their turn, too.
    for _ in 0..<64 {
      var isV4 = false
      let connection = clinux_inet_accept(socket.raw, &isV4)
      guard connection >= 0 else {
        guard errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM else { return }
        if isLastTry { return relay.starve(self) }
        relay.loop.common.markStarved()
        isLastTry = true
        continue
      }
      relay.loop.count(.connections)
      relay.loop.count(.open)
      // A service that speaks only the other family is found there.
      let preferred = targets.filter { ($0.address.count == 4) == isV4 }
      let others = targets.filter { ($0.address.count == 4) != isV4 }
      give(Descriptor(adopting: connection), to: preferred + others)
    }
  }

  private func give(_ connection: Descriptor, to targets: [RelayTarget]) {
    if let helper = crew.helper(below: relay.load) {
      helper.load.add(1, ordering: .relaxed)
      helper.inbox.put(.carry(connection, publication: id, targets: targets))
    } else {
      relay.load += 1
      own.begin(connection, targets: targets)
    }
  }

  func close() {
    own.close()
    crew.withdraw(id)
  }
}

/// The connections of a publication that a thread carries.
final class StreamGroup {
  private let loop: RelayLoop
  private let onEnd: () -> Void
  private var streams: [ObjectIdentifier: Stream] = [:]

  init(_ loop: RelayLoop, onEnd: @escaping () -> Void) {
    self.loop = loop
    self.onEnd = onEnd
  }

  func begin(_ connection: Descriptor, targets: [RelayTarget]) {
    let stream = Stream(connection, targets: targets, of: loop, in: self)
    streams[ObjectIdentifier(stream)] = stream
    stream.begin()
  }

  func remove(_ stream: Stream) {
    guard streams.removeValue(forKey: ObjectIdentifier(stream)) != nil else { return }
    loop.count(.open, -1)
    onEnd()
    loop.hasGivenBack = true
  }

  func close() {
    for stream in streams.values { stream.end() }
  }
}

/// One connection: two sockets, and what is on its way between them.
final class Stream: Waiter {
  private unowned let loop: RelayLoop
  private unowned let group: StreamGroup
  private var outside: Descriptor?
  private var inside: Descriptor?
  private var targets: ArraySlice<RelayTarget>
  private var isConnected = false
  private var isEnded = false
  private var isBounded = false
  private var inward = Flow()
  private var outward = Flow()

  init(_ outside: Descriptor, targets: [RelayTarget], of loop: RelayLoop, in group: StreamGroup) {
    self.outside = outside
    self.targets = targets[...]
    self.loop = loop
    self.group = group
  }

  func begin() {
    guard let outside else { return }
    var on: Int32 = 1
    setsockopt(outside.raw, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
    _ = clinux_inet_no_delay(outside.raw)
    connectNext()
    guard !isEnded else { return }
    let all = RelayLoop.readable | RelayLoop.writable | RelayLoop.readHangUp | RelayLoop.edge
    if !loop.watch(outside.raw, all, self) { end() }
  }

  private func connectNext() {
    guard let outside else { return }
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
      let all = RelayLoop.readable | RelayLoop.writable | RelayLoop.readHangUp | RelayLoop.edge
      if loop.watch(socket.raw, all, self) { return }
      inside = nil
    }
    loop.count(.refused)
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
        loop.forget(inside.raw)
        self.inside = nil
        return connectNext()
      }
      // The first event may be of a socket that is not under way at all yet.
      guard events & RelayLoop.writable != 0 else { return }
      isConnected = true
    }
    goOn()
  }

  /// Moves what there is, in both directions, up to a bound.
  func goOn() {
    guard !isEnded, isConnected, let outside, let inside else { return }
    let (first, second) = (outside.raw, inside.raw)
    let isInwardWell = inward.move(from: first, to: second, counter: .bytesIn, loop)
    let isOutwardWell = outward.move(from: second, to: first, counter: .bytesOut, loop)
    if !isInwardWell || !isOutwardWell || inward.isDone && outward.isDone { return end() }
    if inward.hasMore || outward.hasMore { loop.unfinished.append(self) }
    if !isBounded, inward.moved + outward.moved > Int(Self.bound) {
      isBounded = true
      for socket in [first, second] where clinux_inet_is_near(socket, Self.near) {
        clinux_inet_bound(socket, Self.bound)
      }
    }
  }

  /// What is on its way to or from somebody on the same host is to stay in the processor's cache: between the two, buffers
  /// that grow by themselves hold megabytes, each of which goes out to memory and comes back. On a way that takes longer
  /// than this many microseconds the kernel's own reckoning counts. A full one of twice `bound` is good for 20 Gbit/s
  /// there.
  private static let near: UInt32 = 100
  private static let bound: Int32 = 128 << 10

  func end() {
    guard !isEnded else { return }
    isEnded = true
    if let outside { loop.forget(outside.raw) }
    if let inside { loop.forget(inside.raw) }
    outside = nil
    inside = nil
    inward.end(loop)
    outward.end(loop)
    group.remove(self)
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
  /// Bytes that it has passed on.
  private(set) var moved = 0

  /// - Returns: false when one of the two is broken.
  mutating func move(from: Int32, to: Int32, counter: RelayCounter, _ loop: RelayLoop) -> Bool {
    hasMore = false
    if isDone { return true }
    for _ in 0..<8 {
      if held == 0, !isAtEnd {
        guard let pipe = pipe ?? loop.pipes.take() else { return false }
        self.pipe = pipe
        let count = clinux_splice(from, pipe.input.raw, PipePool.size, false)
        if count < 0 {
          guard errno == EAGAIN else { return false }
          // An idle connection holds no pipe.
          end(loop)
          return true
        }
        if count == 0 { isAtEnd = true }
        held = count
      }
      if held > 0, let pipe {
        let count = clinux_splice(pipe.output.raw, to, held, false)
        if count < 0 { return errno == EAGAIN }
        held -= count
        moved += count
        loop.count(counter, count)
        if held > 0 { return true }
      }
      if isAtEnd, held == 0 {
        shutdown(to, Int32(SHUT_WR))
        isDone = true
        end(loop)
        return true
      }
    }
    hasMore = true
    return true
  }

  mutating func end(_ loop: RelayLoop) {
    // One with something in it is of no use to another connection.
    if let pipe, held == 0 { loop.pipes.giveBack(pipe) }
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
