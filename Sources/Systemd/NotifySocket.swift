import CLinux
import Glibc

/// The receiving end of `NOTIFY_SOCKET`.
///
/// Only the messages of one process count, by the kernel's word. Everything else is taken out of the queue and dropped,
/// for the queue holds ten datagrams, and a full one stops the machine's PID 1.
public final class NotifySocket {
  /// A message, and who sent it.
  public struct Received: Sendable, Equatable {
    /// The sender in our pid namespace.
    public var pid: Int32
    /// The sender's user id in our user namespace.
    public var uid: UInt32
    /// What it says.
    public var message: NotifyMessage
  }

  /// The process whose messages count; nil drops all of them.
  public var sender: Int32?
  /// How many datagrams were dropped, because of their sender or their size.
  public private(set) var dropped: UInt64 = 0
  /// The socket, to be watched for `readable`.
  public let descriptor: Int32

  /// Makes a receiver of a bound socket.
  ///
  /// The corresponding C function is `setsockopt` with `SO_PASSCRED`. A datagram that was sent before has no sender and
  /// is dropped, so make the receiver before anybody can send.
  ///
  /// - Parameters:
  ///   - descriptor: a bound Unix datagram socket; the receiver owns and closes it, also when this throws.
  ///   - sender: the process whose messages count.
  public init(descriptor: Int32, sender: Int32? = nil) throws(SystemdError) {
    self.descriptor = descriptor
    self.sender = sender
    try check(clinux_notify_enable(descriptor), "setsockopt")
  }

  deinit { Glibc.close(descriptor) }

  /// Empties the queue, without waiting.
  ///
  /// The corresponding C function is `recvmsg`. Descriptors that come along are closed.
  ///
  /// - Parameter limit: how many datagrams to take at most, so that a flood leaves time for other things; the event
  ///   loop reports the rest again.
  /// - Returns: the messages that count, in order.
  public func receive(limit: Int = 64) throws(SystemdError) -> [Received] {
    var messages: [Received] = []
    var buffer = [UInt8](repeating: 0, count: NotifyMessage.sizeLimit)
    for _ in 0..<max(limit, 0) {
      var origin = clinux_notify()
      let length = buffer.withUnsafeMutableBytes {
        clinux_notify_receive(descriptor, $0.baseAddress, $0.count, &origin)
      }
      if length == -Int(EAGAIN) { break }
      guard length >= 0 else { throw SystemdError("recvmsg", errno: Int32(clamping: -length)) }
      guard origin.pid > 0, origin.pid == sender, origin.truncated == 0 else {
        dropped &+= 1
        continue
      }
      messages.append(
        Received(pid: origin.pid, uid: origin.uid, message: NotifyMessage(parsing: buffer.prefix(length))))
    }
    return messages
  }
}
