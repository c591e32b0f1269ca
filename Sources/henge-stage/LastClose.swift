import CLinux
import Glibc
import Linux
import Synchronization

/// Lets go of sockets that have become somebody else's. Whoever that is may have closed them already, after a wish that
/// close(2) waits until the client has all that was sent (`SO_LINGER`). Then it is the last descriptor that waits, and
/// that is one of ours: for as long as a client likes, with everybody else's connections behind it.
enum LastClose {
  /// So many may wait at a time.
  private static let most = 64
  private static let waiting = Atomic<Int>(0)

  /// - Parameters:
  ///   - socket: nobody watches it any more.
  ///   - other: what its number stands for from here on.
  static func letGo(of socket: Descriptor, for other: Descriptor) {
    guard clinux_inet_lingers(socket.raw) else { return }
    let count = waiting.add(1, ordering: .relaxed).newValue
    if count > most || !leaveToThread(socket, other) {
      waiting.subtract(1, ordering: .relaxed)
      clinux_inet_linger_no_more(socket.raw)
    }
  }

  private static func leaveToThread(_ socket: Descriptor, _ other: Descriptor) -> Bool {
    let copy = fcntl(socket.raw, F_DUPFD_CLOEXEC, 3)
    guard copy >= 0 else { return false }
    // Before that one closes: whichever comes last is the one that waits.
    dup2(other.raw, socket.raw)
    var thread = pthread_t()
    let result = pthread_create(
      &thread, nil,
      { raw in
        close(Int32(Int(bitPattern: raw)))
        LastClose.waiting.subtract(1, ordering: .relaxed)
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(copy)))
    guard result == 0 else {
      clinux_inet_linger_no_more(copy)
      close(copy)
      return false
    }
    pthread_detach(thread)
    return true
  }
}
