import CLinux
import Glibc

/// What was sent into the machine without being taken from the client.
struct SentAhead {
  /// Of the buffer of what sends it, in bytes, of which the kernel makes twice as much. With what a socket takes in by
  /// default that is half of `most`.
  static let bound: Int32 = 32 << 10
  /// Whoever takes in more than this is reading it, or has set a large buffer: the connection is carried.
  private static let most = 256 << 10

  private(set) var count = 0
  /// So much that the client may not be able to say more.
  private(set) var isMuch = false
  /// There was more than there was room for, and no word yet that there is some.
  var isFull = false
  /// The client says no more.
  var isLast = false
  /// That has been passed on, too.
  private(set) var isEndSent = false

  /// - Returns: false when there is something that only the connection's end or its being carried can be the answer to.
  mutating func send(from: Int32, to: Int32, _ loop: RelayLoop) -> Bool {
    if isFull || isEndSent { return true }
    let space = loop.aside(Self.most)
    let found = clinux_inet_peek(from, space, Self.most)
    guard found >= 0 else { return errno == EAGAIN }
    guard found < Self.most else { return false }
    if found == 0 { isLast = true }
    isMuch = found >= 32 << 10
    if found > count {
      let sent = clinux_inet_send(to, space + count, found - count)
      guard sent >= 0 || errno == EAGAIN else { return false }
      count += max(0, sent)
      isFull = count < found
    }
    if isLast, count == found {
      shutdown(to, Int32(SHUT_WR))
      isEndSent = true
    }
    return true
  }

  /// Takes it from the client after all.
  ///
  /// - Returns: false when the client is gone.
  func drop(from: Int32) -> Bool { count == 0 || clinux_inet_drop(from, count) == count }
}
