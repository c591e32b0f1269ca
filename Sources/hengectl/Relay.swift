import CLinux
import Glibc
import Linux

/// One way of a copy between two descriptors, a bounded piece at a time.
final class Relay {
  /// More than the kernel keeps of a terminal's output.
  private static let mostAtTheEnd = 1 << 20

  private var source: Descriptor?
  private var sink: Descriptor?
  /// Looks at each piece on its way; false ends the whole copy.
  var inspect: ((ArraySlice<UInt8>) -> Bool)?
  /// What is written when the source has come to its end.
  var farewell: [UInt8] = []
  /// Whether an end of the source may be none: a terminal of a machine that a getty hangs up is opened again.
  var comesBack = false
  /// Whether one of the two is a pipe of ours that never waits, and the other no file: then pages are moved, and nothing
  /// is copied.
  var canSplice = false
  /// Nothing comes just now, though the kernel says that it is the end.
  private(set) var isResting = false
  private var edges: EdgeWatch?
  /// Much came at once, and more may be on its way.
  private var isFlowing = false
  private var isFull = false
  /// How many bytes more are taken from the source; nil while those who write to it live.
  private var allowance: Int?
  private var buffer: [UInt8] = []
  private var pending = 0..<0

  init(from source: Descriptor, to sink: Descriptor) {
    self.source = source
    self.sink = sink
  }

  var isEnded: Bool { sink == nil }

  /// Whether something is on its way that the sink does not take yet.
  var holds: Bool { sink != nil && (isFull || !pending.isEmpty) }

  /// What to wait for.
  var entry: pollfd? {
    guard let sink else { return nil }
    if isResting { return edges.map { pollfd(fd: $0.descriptor.raw, events: Int16(POLLIN), revents: 0) } }
    if isFull || !pending.isEmpty { return pollfd(fd: sink.raw, events: Int16(POLLOUT), revents: 0) }
    return source.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
  }

  func wake() { isResting = false }

  /// Those whom the source belongs to have ended: what they wrote is on its way, and nothing that comes after it is
  /// theirs. Somebody else in the machine may have kept the other end, and write to it for ever.
  func seal() {
    guard let source, allowance == nil else { return }
    if source.isAnonymousPipe {
      allowance = Int(max(0, clinux_readable_bytes(source.raw)))
    } else if isatty(source.raw) == 1 {
      // How much lies in a terminal is known when it has been taken.
      buffer = Array(buffer[pending])
      var piece = [UInt8](repeating: 0, count: 65536)
      while buffer.count < Self.mostAtTheEnd {
        let count = read(source.raw, &piece, piece.count)
        guard count > 0 else { break }
        buffer += piece[..<count]
      }
      pending = 0..<buffer.count
      allowance = 0
    }
    endIfTaken()
  }

  private func endIfTaken() {
    if allowance == 0, pending.isEmpty { finish() }
  }

  /// How much of so much may be taken.
  private func allowed(_ count: Int) -> Int { min(count, allowance ?? count) }

  private func took(_ count: Int) { allowance = allowance.map { $0 - count } }

  /// Whether much came at the last step.
  func takeFlow() -> Bool {
    defer { isFlowing = false }
    return isFlowing
  }

  /// Copies what is there.
  ///
  /// - Returns: false when the whole copy is to end.
  func step() -> Bool {
    isResting = false
    isFlowing = false
    defer { endIfTaken() }
    if canSplice, pending.isEmpty, moved() { return true }
    if pending.isEmpty, let source {
      if buffer.isEmpty { buffer = [UInt8](repeating: 0, count: 65536) }
      let count = read(source.raw, &buffer, allowed(buffer.count))
      if count < 0, errno == EAGAIN || errno == EINTR { return true }
      if count <= 0 {
        guard comesBack else {
          finish()
          return true
        }
        return rest(source)
      }
      took(count)
      pending = 0..<count
      if let inspect, !inspect(buffer[pending]) { return false }
    }
    flush()
    return true
  }

  /// Waits for a change: as a state, the end of a terminal that nobody has open would be reported for ever.
  private func rest(_ source: Descriptor) -> Bool {
    if edges == nil { edges = EdgeWatch(source) }
    // What came before the watch was there, or was told already, is looked for once more.
    if edges?.take() == true { return step() }
    isResting = true
    return true
  }

  /// Moves pages from pipe to pipe, or between a pipe and what is no file.
  ///
  /// - Returns: false where that cannot be done.
  private func moved() -> Bool {
    guard let source, let sink else { return false }
    let count = clinux_splice(source.raw, sink.raw, allowed(1 << 20), true)
    if count > 0 {
      took(count)
      isFull = false
      isFlowing = count >= 65536
    } else if count == 0 {
      finish()
    } else if errno == EAGAIN {
      // One of the two: which one shows when the other has been waited for.
      isFull.toggle()
    } else if errno == EINVAL {
      canSplice = false
      isFull = false
      return false
    } else if errno != EINTR {
      drop()
    }
    return true
  }

  private func flush() {
    guard let sink, !pending.isEmpty else { return }
    let count = buffer[pending].withUnsafeBytes { write(sink.raw, $0.baseAddress, $0.count) }
    if count > 0 { pending = pending.lowerBound + count..<pending.upperBound }
    if count < 0, errno != EAGAIN, errno != EINTR { drop() }
    if pending.isEmpty, source == nil { self.sink = nil }
  }

  /// The source has come to its end.
  private func finish() {
    source = nil
    if farewell.isEmpty {
      sink = nil
    } else {
      buffer = farewell
      pending = 0..<farewell.count
    }
  }

  /// Nobody reads any more; whoever writes is to learn of it.
  private func drop() {
    source = nil
    sink = nil
    pending = 0..<0
  }
}

/// Tells of each change of a terminal once. The corresponding C functions are those of `epoll`, edge-triggered.
private final class EdgeWatch {
  let descriptor: Descriptor

  init?(_ source: Descriptor) {
    let watch = clinux_edge_watch(source.raw)
    guard watch >= 0 else { return nil }
    descriptor = Descriptor(adopting: watch)
  }

  /// Whether something changed since the last time.
  func take() -> Bool { clinux_edge_take(descriptor.raw) }
}

/// Copies in all its relays until a reply comes, and then until what was on its way is through.
struct Pump {
  /// How it came to its end.
  enum End {
    /// The reply is there.
    case replied
    /// One of the relays said so.
    case left
    /// This signal came.
    case signalled(Int32)
  }

  /// From the operator.
  var inputs: [Relay] = []
  /// To the operator.
  var outputs: [Relay] = []
  /// Becomes readable with the reply.
  var ready: Int32
  /// The reply is there already.
  var hasReply: Bool
  /// Bytes that are signals.
  var signals: Descriptor?
  /// Called for a signal that does not end it.
  var onSignal: (Int32) -> Bool = { _ in false }

  func run() -> End {
    var isOver = hasReply
    if isOver { for relay in outputs { relay.seal() } }
    while true {
      if isOver, outputs.allSatisfy({ $0.isEnded || $0.isResting }) { return .replied }
      var entries = [pollfd(fd: isOver ? -1 : ready, events: Int16(POLLIN), revents: 0)]
      entries.append(pollfd(fd: signals?.raw ?? -1, events: Int16(POLLIN), revents: 0))
      let relays = (isOver ? [] : inputs) + outputs
      for relay in relays { entries.append(relay.entry ?? pollfd(fd: -1, events: 0, revents: 0)) }
      let count = poll(&entries, nfds_t(entries.count), isOver ? 200 : -1)
      if count < 0, errno != EINTR { return .replied }
      // What nobody closes and nothing comes from any more holds nobody up.
      if count == 0, isOver, !outputs.contains(where: \.holds) { return .replied }
      if count <= 0 {
        for relay in relays { relay.wake() }
        if count < 0 { for index in entries.indices { entries[index].revents = 0 } }
      }
      if let number = takeSignal(), !onSignal(number) { return .signalled(number) }
      for (relay, entry) in zip(relays, entries.dropFirst(2)) where entry.revents != 0 {
        if !relay.step() { return .left }
      }
      if entries[0].revents != 0 {
        isOver = true
        // What was the end a moment ago may have been followed by something.
        for relay in outputs {
          relay.wake()
          relay.seal()
        }
      }
      // Woken for every few pages, we would take from the two ends of a stream the processors that they run on, and
      // halve what gets through. So a stream gathers for a tenth of a millisecond, and only a stream.
      if !isOver, relays.contains(where: { $0.takeFlow() }) { clinux_poll_either(ready, signals?.raw ?? -1, 100) }
    }
  }

  private func takeSignal() -> Int32? {
    guard let signals else { return nil }
    var byte: UInt8 = 0
    return read(signals.raw, &byte, 1) == 1 ? Int32(byte) : nil
  }
}
