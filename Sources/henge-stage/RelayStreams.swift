import CLinux
import Glibc
import Linux
import StageProtocol

/// A connection that came in.
struct Arrival: Sendable {
  let socket: Descriptor
  let peer: clinux_inet_peer
  /// Who of those that accept in the machine may be given the socket itself; nil when nobody is.
  let takers: RelayTakers?
  /// Whom to try in turn.
  let targets: [RelayTarget]
}

/// A listening socket, whose connections go to the relay's threads.
final class StreamListener: Listener {
  let socket: Descriptor
  private let id: UInt32
  private let takers: RelayTakers?
  private let targets: [RelayTarget]
  private unowned let relay: Relay
  private let crew: RelayCrew
  private let own: StreamGroup

  init(
    _ id: UInt32, _ socket: Descriptor, isOffered: Bool, targets: [RelayTarget], of relay: Relay, _ crew: RelayCrew
  ) {
    self.id = id
    self.socket = socket
    takers = isOffered ? RelayTakers() : nil
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
      var peer = clinux_inet_peer()
      let connection = clinux_inet_accept(socket.raw, &peer)
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
      let isV4 = peer.is_v6 == 0 || peer.is_mapped != 0
      let preferred = targets.filter { ($0.address.count == 4) == isV4 }
      let others = targets.filter { ($0.address.count == 4) != isV4 }
      // A service in the machine that trusts whoever comes from the loopback means the machine's own.
      let takers = peer.isLoopback ? nil : takers.flatMap { $0.isWorthwhile ? $0 : nil }
      give(
        Arrival(
          socket: Descriptor(adopting: connection), peer: peer, takers: takers, targets: preferred + others))
    }
  }

  private func give(_ arrival: Arrival) {
    if let helper = crew.helper(below: relay.load) {
      helper.load.add(1, ordering: .relaxed)
      helper.inbox.put(.carry(arrival, publication: id))
    } else {
      relay.load += 1
      own.begin(arrival)
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

  func begin(_ arrival: Arrival) {
    let stream = Stream(arrival, of: loop, in: self)
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
  private let peer: clinux_inet_peer
  private let allTargets: [RelayTarget]
  private var targets: ArraySlice<RelayTarget>
  private var takers: RelayTakers?
  /// Whoever accepts `inside` may be given `outside`: it is not known yet who carries this connection.
  private var offer: RelayOffers.Made?
  private var ahead = SentAhead()
  private var isWaitedFor = false
  private var isConnected = false
  private var isEnded = false
  private var isBounded = false
  private var inward = Flow()
  private var outward = Flow()

  init(_ arrival: Arrival, of loop: RelayLoop, in group: StreamGroup) {
    outside = arrival.socket
    peer = arrival.peer
    takers = arrival.takers
    allTargets = arrival.targets
    targets = arrival.targets[...]
    self.loop = loop
    self.group = group
  }

  func begin() {
    guard let outside else { return }
    if takers == nil { makeOurs(outside) }
    connectNext()
    guard !isEnded else { return }
    let all = RelayLoop.readable | RelayLoop.writable | RelayLoop.readHangUp | RelayLoop.edge
    if !loop.watch(outside.raw, all, self) { end() }
  }

  /// One that is given away has none of the relay's own settings.
  private func makeOurs(_ outside: Descriptor) {
    clinux_inet_keep_alive(outside.raw)
    _ = clinux_inet_no_delay(outside.raw)
  }

  private func connectNext() {
    guard let outside else { return }
    while let target = targets.popFirst() {
      let number = clinux_inet_socket(target.address.count, false)
      // Without a descriptor left there is nothing to be done for this one.
      guard number >= 0 else { continue }
      let socket = Descriptor(adopting: number)
      _ = clinux_inet_no_delay(socket.raw)
      if takers != nil, let offers = loop.common.offers {
        offer = offers.make(outside, from: peer, by: socket, to: target)
        if offer == nil { makeOurs(outside) } else { clinux_inet_bound_sent(socket.raw, SentAhead.bound) }
      }
      let result = clinux_inet_connect(socket.raw, target.address, target.address.count, UInt32(target.port))
      guard result == 0 || errno == EINPROGRESS else {
        takeBack()
        continue
      }
      inside = socket
      isConnected = result == 0
      let all = RelayLoop.readable | RelayLoop.writable | RelayLoop.readHangUp | RelayLoop.edge
      if loop.watch(socket.raw, all, self) { return }
      inside = nil
      takeBack()
    }
    loop.count(.refused)
    // So that the client sees a connection that is reset, and not one that ended in good order.
    clinux_inet_reset_when_closed(outside.raw)
    end()
  }

  /// An offer that nobody can have accepted.
  private func takeBack() {
    if let offer { _ = loop.common.offers?.settle(offer, isOver: true) }
    offer = nil
  }

  func isReady(_ events: UInt32, at descriptor: Int32) {
    guard !isEnded, let inside else { return }
    if offer != nil, descriptor != inside.raw, events & RelayLoop.readHangUp != 0 { ahead.isLast = true }
    if !isConnected {
      guard descriptor == inside.raw else { return }
      guard clinux_inet_error(inside.raw) == 0 else {
        // It may have been connected and, with the client given away, closed in between.
        if isSettledOtherwise(isOver: true) { return }
        loop.forget(inside.raw)
        self.inside = nil
        return connectNext()
      }
      // The first event may be of a socket that is not under way at all yet.
      guard events & RelayLoop.writable != 0 else { return }
      isConnected = true
    }
    if offer != nil { return wait(events, isInside: descriptor == inside.raw) }
    goOn()
  }

  private static let over: UInt32 = 0x8 | 0x10

  /// While it is not known who carries the connection. Whoever accepts it in the usual way may wait for what the client
  /// says; so that is sent there without being taken from the client. That the other end speaks or closes says that it
  /// was accepted. Whether it reads is not told: a client that has said as much as a socket takes in, and may be waiting
  /// for that to be read, is carried after a while.
  private func wait(_ events: UInt32, isInside: Bool) {
    if isInside {
      if events & (RelayLoop.readable | RelayLoop.readHangUp | Self.over) != 0 { return settle(isOver: true) }
      ahead.isFull = false
    } else if events & Self.over != 0 {
      return settle(isOver: false)
    }
    sendAhead()
  }

  private func sendAhead() {
    guard let outside, let inside else { return }
    guard ahead.send(from: outside.raw, to: inside.raw, loop) else {
      return settle(isOver: false)
    }
    if ahead.isMuch, !isWaitedFor {
      isWaitedFor = true
      loop.remind(self)
    }
  }

  /// It was waited for long enough that somebody accepts.
  func isDue() {
    if offer != nil, isConnected { settle(isOver: false) }
  }

  /// Ends the offer: either the client's socket is somebody else's by now, or this relay carries what comes from it.
  private func settle(isOver: Bool) {
    guard !isSettledOtherwise(isOver: isOver), let outside, let inside else { return }
    takers?.note(isTaken: false)
    makeOurs(outside)
    // As far as the offer had it bounded.
    clinux_inet_bound_sent(inside.raw, Self.bound)
    guard ahead.drop(from: outside.raw) else { return end() }
    inward.begin(ahead, loop)
    goOn()
  }

  /// - Parameter isOver: the other end has spoken or closed.
  /// - Returns: whether there is nothing to be done for this connection any more, or for now, or it has begun anew.
  private func isSettledOtherwise(isOver: Bool) -> Bool {
    guard let offer, let offers = loop.common.offers else { return false }
    let outcome = offers.settle(offer, isOver: isOver)
    if case .undecided = outcome { return true }
    self.offer = nil
    switch outcome {
    case .ours: return false
    case .undecided: break
    case .taken:
      takers?.note(isTaken: true)
      loop.count(.handedOver)
      if let outside {
        loop.forget(outside.raw)
        LastClose.letGo(of: outside, for: loop.common.main.event)
      }
      end()
    case .returned:
      if let inside { loop.forget(inside.raw) }
      inside = nil
      isConnected = false
      takers = nil
      isWaitedFor = false
      ahead = SentAhead()
      targets = allTargets[...]
      if let outside {
        makeOurs(outside)
        // It was made as whoever accepts would have had it, maybe one that waits.
        _ = clinux_set_nonblocking(outside.raw, true)
        clinux_inet_plain(outside.raw)
      }
      connectNext()
    }
    return true
  }

  /// Moves what there is, in both directions, up to a bound.
  func goOn() {
    guard !isEnded, isConnected, let outside, let inside else { return }
    let (first, second) = (outside.raw, inside.raw)
    let isInwardWell = inward.move(from: first, to: second, counter: .bytesIn, loop)
    let isOutwardWell = outward.move(from: second, to: first, counter: .bytesOut, loop)
    guard isInwardWell, isOutwardWell else {
      // Whoever is left sees what broke, and not an end in good order.
      for socket in [first, second] { clinux_inet_reset_when_closed(socket) }
      return end()
    }
    if inward.isDone && outward.isDone { return end() }
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
    takeBack()
    if let outside { loop.forget(outside.raw) }
    if let inside { loop.forget(inside.raw) }
    outside = nil
    inside = nil
    inward.end(loop)
    outward.end(loop)
    group.remove(self)
  }
}
