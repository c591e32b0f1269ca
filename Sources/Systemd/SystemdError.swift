import Glibc

/// A call into libsystemd, or of the kernel beside it, that failed.
public struct SystemdError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The C function.
  public var call: String
  /// The error number, positive.
  public var errno: Int32

  /// Describes a failed call.
  ///
  /// - Parameters:
  ///   - call: the C function.
  ///   - errno: the error number, positive.
  public init(_ call: String, errno: Int32) {
    self.call = call
    self.errno = errno
  }

  /// One lower-case line.
  public var description: String { "\(call) failed: \(explain(errno))" }
}

/// The C library's words for an error number.
func explain(_ errno: Int32) -> String {
  guard let text = strerror(errno) else { return "error number \(errno)" }
  return String(cString: text).lowercased()
}

/// Passes a result of libsystemd on, which is an error number below zero.
@discardableResult
func check(_ result: Int32, _ call: String) throws(SystemdError) -> Int32 {
  guard result >= 0 else { throw SystemdError(call, errno: negated(result)) }
  return result
}

/// The positive of a negative result, whatever a broken library may return.
func negated(_ result: Int32) -> Int32 {
  result == .min ? .max : -result
}
