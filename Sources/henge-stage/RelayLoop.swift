import CLinux
import Glibc
import Linux
import StageProtocol

/// Somebody who waits for a descriptor to be ready.
protocol Waiter: AnyObject {
  func isReady(_ events: UInt32, at descriptor: Int32)
}

/// One who just does something then.
final class Bell: Waiter {
  private let body: () -> Void

  init(_ body: @escaping () -> Void) { self.body = body }

  func isReady(_ events: UInt32, at descriptor: Int32) { body() }
}

/// What a thread of a relay does all day: waits for its descriptors, and tells those who wait for them. Everything in it
/// belongs to that thread.
final class RelayLoop {
  private let poll: Descriptor
  /// By descriptor, each with the number of its watch: an event that was told along with one that had a descriptor closed
  /// is not for who has that number by then.
  private var waiters: [(waiter: (any Waiter)?, watch: UInt32)] = []
  private var lastWatch: UInt32 = 0
  private var events = [clinux_ready](repeating: clinux_ready(), count: 256)
  /// Streams that moved a lot and have more to move: others come first.
  var unfinished: [Stream] = []
  /// Descriptors were closed, or are by the end of the turn.
  var hasGivenBack = false
  let common: RelayCommon
  let pipes = PipePool()
  private var reminders: [(time: UInt64, stream: Stream)] = []
  private var space: UnsafeMutableRawPointer?
  private(set) var time: UInt64 = 0

  static let readable: UInt32 = 0x1
  static let writable: UInt32 = 0x4
  static let readHangUp: UInt32 = 0x2000
  static let edge: UInt32 = 1 << 31

  init(_ common: RelayCommon) throws(Failure) {
    self.common = common
    poll = Descriptor(adopting: try check(clinux_poll_make(), "make", "an epoll"))
  }

  func count(_ counter: RelayCounter, _ amount: Int = 1) {
    clinux_add(common.counters + counter.rawValue, UInt64(bitPattern: Int64(amount)))
  }

  /// Room for bytes that are looked at, of one size for all who ask.
  func aside(_ size: Int) -> UnsafeMutableRawPointer {
    if let space { return space }
    let made = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    space = made
    return made
  }

  func watch(_ descriptor: Int32, _ events: UInt32, _ waiter: any Waiter) -> Bool {
    let index = Int(descriptor)
    while waiters.count <= index { waiters.append((nil, 0)) }
    lastWatch &+= 1
    waiters[index] = (waiter, lastWatch)
    return clinux_poll_add(poll.raw, descriptor, lastWatch, events) == 0
  }

  func watch(_ inbox: Inbox, _ body: @escaping (RelayNote) -> Void) -> Bool {
    watch(inbox.event.raw, Self.readable, Bell { for note in inbox.take() { body(note) } })
  }

  /// Before the descriptor is closed.
  func forget(_ descriptor: Int32) {
    guard descriptor >= 0, Int(descriptor) < waiters.count else { return }
    waiters[Int(descriptor)].waiter = nil
    _ = clinux_poll_remove(poll.raw, descriptor)
  }

  /// In microseconds.
  private static let reminding: UInt64 = 20_000

  /// Has a stream told that it `isDue`, after a while that is the same for all.
  func remind(_ stream: Stream) {
    reminders.append((clinux_monotonic_microseconds() + Self.reminding, stream))
  }

  private func timeout(orAtMost milliseconds: Int32) -> Int32 {
    if !unfinished.isEmpty { return 0 }
    guard let first = reminders.first else { return milliseconds }
    let now = clinux_monotonic_microseconds()
    let left = first.time > now ? Int32((first.time - now) / 1000 + 1) : 0
    return milliseconds < 0 ? left : min(milliseconds, left)
  }

  /// Waits once, for so many milliseconds at most (-1: until there is something), and has everybody served who is ready.
  func turn(waitingFor milliseconds: Int32) throws(Failure) {
    let count = clinux_poll_wait(poll.raw, &events, Int32(events.count), timeout(orAtMost: milliseconds))
    if count < 0, errno != EINTR { throw Failure("wait for", "sockets", errno: .init(rawValue: errno)) }
    time = clinux_monotonic_microseconds()
    for index in 0..<Int(max(0, count)) {
      let event = events[index]
      let (waiter, watch) = waiters[Int(event.descriptor)]
      if watch == event.watch { waiter?.isReady(event.events, at: event.descriptor) }
    }
    while let first = reminders.first, first.time <= time {
      reminders.removeFirst()
      first.stream.isDue()
    }
    let again = unfinished
    unfinished = []
    for stream in again { stream.goOn() }
    if hasGivenBack {
      hasGivenBack = false
      common.gaveBack()
    }
  }
}
