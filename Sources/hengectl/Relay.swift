import Glibc
import Linux

/// One way of a copy between two descriptors, a bounded piece at a time.
final class Relay {
  let source: Descriptor
  private(set) var sink: Descriptor?
  /// Looks at each piece on its way; false ends the whole copy.
  var inspect: (ArraySlice<UInt8>) -> Bool = { _ in true }
  /// What is written when the source has come to its end.
  var farewell: [UInt8] = []
  /// Whether an end of the source may be none: a terminal of a machine that a getty hangs up is opened again.
  var comesBack = false
  private(set) var isEnded = false
  /// Nothing comes just now, though the kernel says that it is the end.
  private(set) var isResting = false
  private var buffer = [UInt8](repeating: 0, count: 65536)
  private var pending = 0..<0

  init(from source: Descriptor, to sink: Descriptor) {
    self.source = source
    self.sink = sink
  }

  /// What to wait for.
  var entry: pollfd? {
    if let sink, !pending.isEmpty { return pollfd(fd: sink.raw, events: Int16(POLLOUT), revents: 0) }
    if isEnded || isResting { return nil }
    return pollfd(fd: source.raw, events: Int16(POLLIN), revents: 0)
  }

  func wake() { isResting = false }

  /// Copies what is there.
  ///
  /// - Returns: false when the whole copy is to end.
  func step() -> Bool {
    if pending.isEmpty {
      let count = read(source.raw, &buffer, buffer.count)
      if count < 0, errno == EAGAIN || errno == EINTR { return true }
      if count <= 0 {
        if comesBack { isResting = true } else { finish() }
        return true
      }
      pending = 0..<count
      guard inspect(buffer[pending]) else { return false }
    }
    flush()
    return true
  }

  private func flush() {
    guard let sink, !pending.isEmpty else { return }
    let count = buffer[pending].withUnsafeBytes { write(sink.raw, $0.baseAddress, $0.count) }
    if count > 0 { pending = pending.lowerBound + count..<pending.upperBound }
    // Nobody reads any more: what still comes is thrown away where it is read, so that the source sees it too.
    if count < 0, errno != EAGAIN, errno != EINTR { finish() }
    if pending.isEmpty, isEnded { self.sink = nil }
  }

  /// Ends the way, with what is still to be said.
  func finish() {
    guard !isEnded else { return }
    isEnded = true
    if pending.isEmpty, !farewell.isEmpty {
      buffer.replaceSubrange(0..<farewell.count, with: farewell)
      pending = 0..<farewell.count
    } else {
      pending = 0..<0
      sink = nil
    }
  }
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
    while true {
      if isOver, outputs.allSatisfy({ $0.isEnded || $0.isResting }) { return .replied }
      var entries = [pollfd(fd: isOver ? -1 : ready, events: Int16(POLLIN), revents: 0)]
      entries.append(pollfd(fd: signals?.raw ?? -1, events: Int16(POLLIN), revents: 0))
      let relays = (isOver ? [] : inputs) + outputs
      for relay in relays { entries.append(relay.entry ?? pollfd(fd: -1, events: 0, revents: 0)) }
      let isResting = relays.contains(where: \.isResting)
      let count = poll(&entries, nfds_t(entries.count), isOver ? 200 : isResting ? 50 : -1)
      if count < 0, errno != EINTR { return .replied }
      // What nobody closes and nothing comes from any more holds nobody up.
      if count == 0, isOver { return .replied }
      if count <= 0 {
        for relay in relays { relay.wake() }
        if count < 0 { for index in entries.indices { entries[index].revents = 0 } }
      }
      if let number = takeSignal(), !onSignal(number) { return .signalled(number) }
      for (relay, entry) in zip(relays, entries.dropFirst(2)) where entry.revents != 0 {
        if !relay.step() { return .left }
      }
      if entries[0].revents != 0 { isOver = true }
    }
  }

  private func takeSignal() -> Int32? {
    guard let signals else { return nil }
    var byte: UInt8 = 0
    return read(signals.raw, &byte, 1) == 1 ? Int32(byte) : nil
  }
}
