import Glibc
import Linux

/// A blocking client on one connected Unix stream socket.
///
/// One call at a time. Every wait has a deadline, and the descriptor need not be non-blocking.
public final class VarlinkClient {
  private var socket: Descriptor?
  private var buffer: FrameBuffer
  private var received: [Descriptor] = []

  private var descriptor: Int32 { socket?.raw ?? -1 }

  /// Makes a client of a connected socket.
  ///
  /// - Parameters:
  ///   - descriptor: a connected Unix stream socket; the client owns and closes it.
  ///   - limit: the greatest length of one reply in bytes.
  public init(descriptor: Int32, limit: Int = 1 << 20) {
    socket = Descriptor(adopting: descriptor)
    buffer = FrameBuffer(limit: limit)
  }

  /// Connects to a listening socket.
  ///
  /// The corresponding C functions are `socket` and `connect`.
  ///
  /// - Parameters:
  ///   - path: the socket's path, at most 107 bytes.
  ///   - limit: the greatest length of one reply in bytes.
  /// - Throws: `VarlinkFailure.badPath` or `.system`.
  public convenience init(connectingTo path: String, limit: Int = 1 << 20) throws(VarlinkFailure) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else {
      throw .badPath(path)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .system(call: "socket", errno: errno) }
    let result = withUnsafeBytes(of: &address) { raw in
      raw.withMemoryRebound(to: sockaddr.self) { address in
        connect(descriptor, address.baseAddress, socklen_t(raw.count))
      }
    }
    guard result == 0 else {
      let number = errno
      Glibc.close(descriptor)
      throw .system(call: "connect", errno: number)
    }
    self.init(descriptor: descriptor, limit: limit)
  }

  /// Closes the connection; every later call throws `VarlinkFailure.closed`.
  public func close() {
    socket = nil
    received = []
  }

  /// Takes the open files that came along with the replies since the last time.
  public func takeDescriptors() -> [Descriptor] {
    defer { received = [] }
    return received
  }

  /// Becomes readable when a reply comes or the peer goes away; nil when the connection is closed.
  public var readiness: Int32? { socket?.raw }

  /// A whole reply has been received already, and nothing on the socket will tell of it.
  public var hasReply: Bool { buffer.holdsMessage }

  /// Calls a method and waits for its reply.
  ///
  /// - Parameters:
  ///   - method: the full name: interface, dot, method.
  ///   - parameters: the named parameters, an object.
  ///   - descriptors: open files that go along with it, at most 16.
  ///   - timeout: how long the whole call may take, in milliseconds; nil waits for ever.
  /// - Returns: the named results; the open files that came along are there for `takeDescriptors`.
  /// - Throws: `VarlinkError` where the server answered with one, `VarlinkFailure` where there was no answer.
  public func call(
    _ method: String, _ parameters: JSON = [:], passing descriptors: [Descriptor] = [], timeout: Int? = nil
  ) throws -> JSON {
    let deadline = Deadline(milliseconds: timeout)
    try send(VarlinkCall(method: method, parameters: parameters, descriptors: descriptors), until: deadline)
    let reply = try receive(method, until: deadline)
    if reply.continues {
      close()
      throw VarlinkFailure.malformed(method: method, reason: "it goes on, though only one reply was asked for")
    }
    return reply.parameters
  }

  /// Calls a method that may reply more than once.
  ///
  /// - Parameters:
  ///   - method: the full name: interface, dot, method.
  ///   - parameters: the named parameters, an object.
  ///   - descriptors: open files that go along with it, at most 16.
  ///   - timeout: how long to wait for each reply, in milliseconds; nil waits for ever.
  ///   - sent: called when the call is on its way, before its replies are waited for.
  ///   - body: takes each reply's results; false ends the call and closes the connection, unless it was the last reply.
  /// - Throws: `VarlinkError` where the server answered with one, `VarlinkFailure` where there was no answer, and what
  ///   `body` throws, which closes the connection too.
  public func callMore(
    _ method: String, _ parameters: JSON = [:], passing descriptors: [Descriptor] = [], timeout: Int? = nil,
    sent: () throws -> Void = {}, _ body: (JSON) throws -> Bool
  ) throws {
    try send(
      VarlinkCall(method: method, parameters: parameters, more: true, descriptors: descriptors),
      until: Deadline(milliseconds: timeout))
    try sent()
    var finished = false
    // Replies that nobody reads would answer the next call.
    defer { if !finished { close() } }
    while true {
      let reply: VarlinkReply
      do {
        reply = try receive(method, until: Deadline(milliseconds: timeout))
      } catch let error as VarlinkError {
        finished = true
        throw error
      }
      finished = !reply.continues
      let goOn = try body(reply.parameters)
      if finished || !goOn { return }
    }
  }

  /// Calls a method that nobody answers.
  ///
  /// - Parameters:
  ///   - method: the full name: interface, dot, method.
  ///   - parameters: the named parameters, an object.
  ///   - timeout: how long sending may take, in milliseconds; nil waits for ever.
  /// - Throws: `VarlinkFailure`.
  public func callOneway(_ method: String, _ parameters: JSON = [:], timeout: Int? = nil) throws {
    try send(
      VarlinkCall(method: method, parameters: parameters, oneway: true), until: Deadline(milliseconds: timeout))
  }

  private func send(_ call: VarlinkCall, until deadline: Deadline) throws(VarlinkFailure) {
    guard let socket else { throw .closed }
    var rest = call.frame[...]
    var descriptors = call.descriptors
    while !rest.isEmpty {
      do {
        if let count = try socket.sendSome(rest, passing: descriptors) {
          rest = rest.dropFirst(count)
          descriptors = []
          continue
        }
      } catch {
        throw failed(Self.failure(error, "send", call.method))
      }
      try wait(POLLOUT, call.method, until: deadline)
    }
  }

  private static func failure(_ failure: Failure, _ call: String, _ method: String) -> VarlinkFailure {
    switch failure.errno {
    case .brokenPipe, .connectionReset: .hangUp(method: method)
    default: .system(call: call, errno: failure.errno?.rawValue ?? 0)
    }
  }

  private func receive(_ method: String, until deadline: Deadline) throws -> VarlinkReply {
    while true {
      let frame: [UInt8]?
      do {
        frame = try buffer.next()
      } catch {
        throw failed(.malformed(method: method, reason: "\(error)"))
      }
      if let frame { return try reply(frame, method) }
      try fill(method, until: deadline)
    }
  }

  private func reply(_ frame: [UInt8], _ method: String) throws -> VarlinkReply {
    let message: VarlinkMessage
    do {
      message = try VarlinkMessage(parsing: frame)
    } catch {
      throw failed(.malformed(method: method, reason: "\(error)"))
    }
    guard case .reply(let reply) = message else {
      throw failed(.malformed(method: method, reason: "it is a call"))
    }
    if let name = reply.error { throw VarlinkError(name, reply.parameters) }
    return reply
  }

  private func fill(_ method: String, until deadline: Deadline) throws(VarlinkFailure) {
    guard let socket else { throw .closed }
    let piece: (bytes: [UInt8], descriptors: [Descriptor])?
    do {
      piece = try socket.receiveSome(limit: 65536)
    } catch {
      throw failed(Self.failure(error, "recv", method))
    }
    guard let piece else { return try wait(POLLIN, method, until: deadline) }
    if piece.bytes.isEmpty { throw failed(.hangUp(method: method)) }
    received += piece.descriptors
    // Whoever does not take them gets no more of them.
    if received.count > 64 { throw failed(.malformed(method: method, reason: "too many open files came along")) }
    buffer.append(piece.bytes)
  }

  private func wait(_ events: Int32, _ method: String, until deadline: Deadline) throws(VarlinkFailure) {
    while true {
      var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
      let count = poll(&entry, 1, deadline.remaining)
      if count > 0 { return }
      if count == 0, deadline.hasPassed { throw failed(.timedOut(method: method)) }
      if count < 0, errno != EINTR { throw failed(.system(call: "poll", errno: errno)) }
    }
  }

  private func failed(_ failure: VarlinkFailure) -> VarlinkFailure {
    close()
    return failure
  }
}

/// A moment on the monotonic clock.
private struct Deadline {
  private let end: Int64?

  init(milliseconds: Int?) {
    end = milliseconds.map { Self.now.addingReportingOverflow(Int64(max($0, 0))) }
      .map { $0.overflow ? Int64.max : $0.partialValue }
  }

  private static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }

  var hasPassed: Bool { end.map { Self.now >= $0 } ?? false }

  /// What `poll` takes.
  var remaining: Int32 { end.map { Int32(clamping: max($0 - Self.now, 0)) } ?? -1 }
}
