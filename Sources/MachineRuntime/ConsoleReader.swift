import Linux
import Systemd

/// Somebody attached to the console. A slow one loses text; the machine does not wait for it.
final class ConsoleReader {
  private static let limit = 1 << 16

  let socket: Descriptor
  /// Called once, when there is nothing more to come.
  var onEnd: (() -> Void)?
  var source: EventLoop.Source?
  var isListenedTo = true { didSet { if isListenedTo != oldValue { update() } } }
  private var waiting: [UInt8] = []
  private var lost = 0

  init(_ socket: Descriptor) {
    self.socket = socket
  }

  /// Sends text, or keeps it for later, or counts it as lost.
  ///
  /// - Returns: false when nobody is there any more.
  func send(_ bytes: ArraySlice<UInt8>) -> Bool {
    if waiting.count + bytes.count > Self.limit {
      lost += bytes.count
      return true
    }
    waiting += bytes
    return flush()
  }

  /// Sends what waits.
  func flush() -> Bool {
    do {
      while !waiting.isEmpty {
        guard let count = try socket.sendSome(waiting) else { break }
        waiting.removeFirst(count)
        if waiting.isEmpty, lost > 0 {
          waiting = Array("\r\n[\(lost) bytes were lost here]\r\n".utf8)
          lost = 0
        }
      }
    } catch {
      return false
    }
    update()
    return true
  }

  func end() {
    let call = onEnd
    onEnd = nil
    call?()
  }

  private func update() {
    var events: IOEvents = isListenedTo ? .readable : []
    if !waiting.isEmpty { events.insert(.writable) }
    try? source?.setEvents(events)
    // That the peer has gone is always told; it must wait until it is listened to again.
    try? source?.setEnabled(!events.isEmpty)
  }
}
