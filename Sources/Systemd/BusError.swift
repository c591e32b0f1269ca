import CSystemd
import Glibc

/// Why a call over a bus came to nothing.
///
/// Name and message may come from a machine: bounded here, to be escaped where they are shown.
public struct BusError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The error's name in reversed-domain form; empty where libsystemd gave a number only.
  public var name: String
  /// What the peer said about it, at most 4096 bytes.
  public var message: String
  /// The error number that is nearest, positive.
  public var errno: Int32

  /// Describes an error.
  ///
  /// - Parameters:
  ///   - name: the error's name in reversed-domain form.
  ///   - message: what is known about it.
  ///   - errno: the error number that is nearest, positive.
  public init(name: String, message: String, errno: Int32) {
    self.name = name
    self.message = message
    self.errno = errno
  }

  /// Describes a failed call of libsystemd.
  ///
  /// - Parameters:
  ///   - call: the C function, or what was being done.
  ///   - errno: the error number, positive.
  public init(_ call: String, errno: Int32) {
    self.init(name: "", message: "\(call): \(explain(errno))", errno: errno)
  }

  /// One line, unescaped.
  public var description: String { name.isEmpty ? message : "\(name): \(message)" }

  /// The error of a call that was not answered in time, named as libsystemd would.
  static func timedOut(_ member: String) -> BusError {
    BusError(
      name: "org.freedesktop.DBus.Error.NoReply", message: "'\(member)' was not answered in time", errno: ETIMEDOUT)
  }

  /// No answer came in time.
  public var isTimeout: Bool {
    errno == ETIMEDOUT || name == "org.freedesktop.DBus.Error.NoReply" || name == "org.freedesktop.DBus.Error.Timeout"
  }

  /// The connection went away.
  public var isDisconnected: Bool {
    [ECONNRESET, ENOTCONN, EPIPE, ESHUTDOWN].contains(errno) || name == "org.freedesktop.DBus.Error.Disconnected"
  }

  /// The error that a message carries, if it carries one.
  init?(of message: OpaquePointer) {
    guard let error = sd_bus_message_get_error(message) else { return nil }
    self.init(
      name: boundedString(error.pointee.name), message: boundedString(error.pointee.message),
      errno: max(sd_bus_message_get_errno(message), 0))
  }
}

/// Reads at most `limit` bytes of a C string, and cuts at the start of a character.
func boundedString(_ text: UnsafePointer<CChar>?, limit: Int = 4096) -> String {
  guard let text else { return "" }
  let length = strnlen(text, limit + 1)
  let bytes = UnsafeRawBufferPointer(start: text, count: min(length, limit))
  var end = bytes.count
  if length > limit {
    // What follows a cut in the middle of a character belongs to that character.
    while end > 0, UInt8(bitPattern: text[end]) & 0xc0 == 0x80 { end -= 1 }
  }
  return String(decoding: bytes.prefix(end), as: UTF8.self)
}

/// Passes a result of sd-bus on, which is an error number below zero.
@discardableResult
func checkBus(_ result: Int32, _ call: String) throws(BusError) -> Int32 {
  guard result >= 0 else { throw BusError(call, errno: negated(result)) }
  return result
}
