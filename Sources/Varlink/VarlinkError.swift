/// An error that the other side of a Varlink connection reported.
public struct VarlinkError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The full name: interface, dot, error.
  public var name: String
  /// The named values that explain it.
  public var parameters: JSON

  /// Describes an error.
  ///
  /// - Parameters:
  ///   - name: the full name: interface, dot, error.
  ///   - parameters: the named values that explain it, an object.
  public init(_ name: String, _ parameters: JSON = [:]) {
    self.name = name
    self.parameters = parameters
  }

  /// One line; the name comes from a peer and may hold anything.
  public var description: String {
    parameters == [:] ? name : "\(name) \(parameters.compact)"
  }

  /// The server has no such interface.
  public static func interfaceNotFound(_ interface: String) -> VarlinkError {
    VarlinkError("org.varlink.service.InterfaceNotFound", ["interface": .string(interface)])
  }

  /// The interface has no such method.
  public static func methodNotFound(_ method: String) -> VarlinkError {
    VarlinkError("org.varlink.service.MethodNotFound", ["method": .string(method)])
  }

  /// The method is described, but nothing stands behind it.
  public static func methodNotImplemented(_ method: String) -> VarlinkError {
    VarlinkError("org.varlink.service.MethodNotImplemented", ["method": .string(method)])
  }

  /// A parameter is missing, or has a wrong type or value.
  public static func invalidParameter(_ parameter: String) -> VarlinkError {
    VarlinkError("org.varlink.service.InvalidParameter", ["parameter": .string(parameter)])
  }

  /// The caller may not do this.
  public static var permissionDenied: VarlinkError { VarlinkError("org.varlink.service.PermissionDenied") }

  /// The method gives more than one reply, and the caller did not say that it takes them.
  public static var expectedMore: VarlinkError { VarlinkError("org.varlink.service.ExpectedMore") }
}

/// Why a Varlink connection came to nothing.
public enum VarlinkFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// The deadline passed; the connection is closed, since a late reply would answer the wrong call.
  case timedOut(method: String)
  /// The other side closed the connection before it had answered.
  case hangUp(method: String)
  /// The other side sent something that is no Varlink message.
  case malformed(method: String, reason: String)
  /// A system call failed.
  case system(call: String, errno: Int32)
  /// The connection was closed by an earlier failure.
  case closed
  /// The path of a socket has no place in an address.
  case badPath(String)

  /// One lower-case line.
  public var description: String {
    switch self {
    case .timedOut(let method): "'\(method)' was not answered in time"
    case .hangUp(let method): "the connection was closed before '\(method)' was answered"
    case .malformed(let method, let reason): "the answer to '\(method)' is malformed: \(reason)"
    case .system(let call, let errno): "\(call) failed with error number \(errno)"
    case .closed: "the connection was closed by an earlier failure"
    case .badPath(let path): "the socket path '\(path)' is empty, holds NUL or is longer than 107 bytes"
    }
  }
}
