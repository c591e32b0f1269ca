import CSystemd
import Glibc

/// A D-Bus connection that is driven by an `EventLoop`: calls with completions, signals with callbacks, no waiting.
///
/// The peer is never trusted: a peer that breaks the protocol, or that sends more than 16 MiB without completing a
/// message, is cut off, and every outstanding call completes with an error.
public final class Bus {
  /// What the two ends are to each other.
  public enum Kind: Sendable {
    /// The peer is a bus daemon: say `Hello`, ask for signals by `AddMatch`.
    case daemon
    /// The peer is one program, such as PID 1 behind its private socket.
    case direct
  }

  /// Called once, when the connection is gone for any reason but `close`; outstanding calls have completed by then.
  public var onDisconnect: ((BusError) -> Void)?

  /// What the two ends are to each other.
  public let kind: Kind

  private let acceptsDescriptors: Bool
  private let loop: EventLoop
  private(set) var pointer: OpaquePointer?
  private var input: EventLoop.Source?
  private var timer: EventLoop.Source?
  private var calls: [ObjectIdentifier: BusCall] = [:]
  private var filter: OpaquePointer?
  // Bytes that arrived since the last whole message.
  private var unfinished = 0

  /// No message of a peer is longer than this; libsystemd itself would take up to 128 MiB.
  static let messageLimit = 16 << 20

  /// Makes a connection of a connected socket.
  ///
  /// The corresponding C functions are `sd_bus_set_fd` and `sd_bus_start`.
  ///
  /// - Parameters:
  ///   - descriptor: a connected Unix stream socket; the bus owns and closes it, also when this throws.
  ///   - kind: what is at the other end.
  ///   - acceptsDescriptors: false cuts a peer off that sends descriptors, which would fill our table; they can be sent
  ///     to it all the same.
  ///   - loop: what drives the connection.
  public convenience init(
    descriptor: Int32, kind: Kind, acceptsDescriptors: Bool = false, on loop: EventLoop
  ) throws(BusError) {
    var bus: OpaquePointer?
    let result = sd_bus_new(&bus)
    guard result >= 0, let bus else {
      Glibc.close(descriptor)
      throw BusError("sd_bus_new", errno: negated(result))
    }
    do {
      try checkBus(sd_bus_set_fd(bus, descriptor, descriptor), "sd_bus_set_fd")
    } catch {
      Glibc.close(descriptor)
      sd_bus_unref(bus)
      throw error
    }
    do {
      try checkBus(sd_bus_set_bus_client(bus, kind == .daemon ? 1 : 0), "sd_bus_set_bus_client")
      // Always, since libsystemd 252 aborts the whole process when descriptors are not negotiated and the peer's
      // answer to the authentication is followed by another end of line.
      try checkBus(sd_bus_negotiate_fds(bus, 1), "sd_bus_negotiate_fds")
      try checkBus(sd_bus_start(bus), "sd_bus_start")
    } catch {
      sd_bus_close_unref(bus)
      throw error
    }
    try self.init(owning: bus, kind: kind, acceptsDescriptors: acceptsDescriptors, loop: loop)
  }

  /// Connects to the host's system bus.
  ///
  /// The corresponding C function is `sd_bus_open_system`; the connection is never the thread's shared one.
  ///
  /// - Parameter loop: what drives the connection.
  public static func openSystem(on loop: EventLoop) throws(BusError) -> Bus {
    try open("sd_bus_open_system", on: loop) { sd_bus_open_system($0) }
  }

  /// Connects to the bus of the user that we run as.
  ///
  /// The corresponding C function is `sd_bus_open_user`.
  ///
  /// - Parameter loop: what drives the connection.
  public static func openUser(on loop: EventLoop) throws(BusError) -> Bus {
    try open("sd_bus_open_user", on: loop) { sd_bus_open_user($0) }
  }

  private static func open(
    _ call: String, on loop: EventLoop, _ body: (UnsafeMutablePointer<OpaquePointer?>) -> Int32
  ) throws(BusError) -> Bus {
    var bus: OpaquePointer?
    try checkBus(body(&bus), call)
    guard let bus else { throw BusError(call, errno: ENOMEM) }
    return try Bus(owning: bus, kind: .daemon, acceptsDescriptors: true, loop: loop)
  }

  private init(
    owning bus: OpaquePointer, kind: Kind, acceptsDescriptors: Bool, loop: EventLoop
  ) throws(BusError) {
    pointer = bus
    self.kind = kind
    self.acceptsDescriptors = acceptsDescriptors
    self.loop = loop
    do throws(SystemdError) {
      try attach(bus)
    } catch {
      close()
      throw BusError(error.call, errno: error.errno)
    }
  }

  deinit { close() }

  /// The connection is there, or is being made.
  public var isOpen: Bool { pointer != nil }

  /// Ends the connection at once; outstanding calls complete with `ECANCELED`, and `onDisconnect` is not called.
  ///
  /// The corresponding C function is `sd_bus_close_unref`. Nothing is flushed, since a peer that does not read would
  /// hold us up.
  public func close() {
    tearDown(BusError("the connection was closed", errno: ECANCELED))
  }

  // sd_bus_attach_event would do the same, but leaves no place to look at how much comes in.
  private func attach(_ bus: OpaquePointer) throws(SystemdError) {
    let descriptor = try check(sd_bus_get_fd(bus), "sd_bus_get_fd")
    let data = Unmanaged.passUnretained(self).toOpaque()
    try check(
      sd_bus_add_filter(
        bus, &filter,
        { _, data, _ in
          if let data { Unmanaged<Bus>.fromOpaque(data).takeUnretainedValue().unfinished = 0 }
          return 0
        }, data), "sd_bus_add_filter")
    let timer = try loop.addTimer(after: .max) { [weak self] in self?.process() }
    try timer.setEnabled(false)
    let input = try loop.addIO(descriptor, []) { [weak self] _ in self?.process() }
    try input.setPrepare { [weak self] in self?.prepare() }
    self.timer = timer
    self.input = input
  }

  private func prepare() {
    guard let bus = pointer, let input, let timer else { return }
    do throws(SystemdError) {
      let events = try check(sd_bus_get_events(bus), "sd_bus_get_events")
      try input.setEvents(IOEvents(rawValue: UInt32(events)))
      var time = UInt64.max
      try check(sd_bus_get_timeout(bus, &time), "sd_bus_get_timeout")
      if time == .max {
        try timer.setEnabled(false)
      } else {
        try timer.rearm(at: time)
      }
    } catch {
      disconnect(BusError(error.call, errno: error.errno))
    }
  }

  private func process() {
    guard let bus = pointer else { return }
    let descriptor = sd_bus_get_fd(bus)
    var waiting: Int32 = 0
    if ioctl(descriptor, UInt(FIONREAD), &waiting) == 0 { unfinished += Int(max(waiting, 0)) }
    guard unfinished <= Self.messageLimit else {
      return disconnect(BusError("a message is longer than \(Self.messageLimit) bytes", errno: EMSGSIZE))
    }
    guard acceptsDescriptors || !descriptorsWait(descriptor, within: Int(waiting)) else {
      return disconnect(BusError("the peer sent descriptors, and none were asked for", errno: EPROTO))
    }
    let result = sd_bus_process(bus, nil)
    // A callback may have closed the connection.
    guard pointer != nil else { return }
    if result < 0 {
      disconnect(BusError("sd_bus_process", errno: negated(result)))
    } else if sd_bus_is_open(bus) <= 0 {
      disconnect(BusError("the peer closed the connection", errno: ECONNRESET))
    }
  }

  /// Descriptors would come along with the next `size` bytes. libsystemd would keep any number of them until a message
  /// is whole; a look without room for them shows that they are there, and takes none.
  private func descriptorsWait(_ socket: Int32, within size: Int) -> Bool {
    guard size > 0 else { return false }
    return withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { bytes in
      var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      return withUnsafeMutablePointer(to: &vector) { vector in
        var message = msghdr()
        message.msg_iov = vector
        message.msg_iovlen = 1
        let count = recvmsg(socket, &message, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        return count >= 0 && message.msg_flags & Int32(MSG_CTRUNC) != 0
      }
    }
  }

  private func disconnect(_ error: BusError) {
    guard pointer != nil else { return }
    let handler = onDisconnect
    tearDown(error)
    handler?(error)
  }

  private func tearDown(_ error: BusError) {
    guard let bus = pointer else { return }
    // First of all: a completion that calls again must find the connection gone.
    pointer = nil
    onDisconnect = nil
    input?.cancel()
    timer?.cancel()
    input = nil
    timer = nil
    filter = sd_bus_slot_unref(filter)
    sd_bus_close_unref(bus)
    let unanswered = calls.values
    calls = [:]
    for call in unanswered { call.complete(.failure(error)) }
  }
}

extension Bus {
  /// Sends a call and goes on.
  ///
  /// The corresponding C function is `sd_bus_call_async`. The completion is called exactly once, never from within this
  /// method, unless the returned call is cancelled.
  ///
  /// - Parameters:
  ///   - destination: the peer's bus name; of no meaning on a direct connection.
  ///   - path: the object.
  ///   - interface: the interface.
  ///   - member: the method.
  ///   - timeout: how long to wait for the answer, in microseconds.
  ///   - arguments: appends the arguments.
  ///   - completion: takes the answer.
  /// - Returns: a handle by which the answer can be declined; it need not be kept.
  @discardableResult
  public func call(
    _ destination: String, _ path: String, _ interface: String, _ member: String, timeout: UInt64 = 5_000_000,
    arguments: (Message) throws(BusError) -> Void = { _ in },
    completion: @escaping (Result<Message, BusError>) -> Void
  ) -> BusCall {
    let call = BusCall(completion)
    let key = ObjectIdentifier(call)
    call.onEnd = { [weak self] in self?.calls[key] = nil }
    do throws(BusError) {
      guard let bus = pointer else { throw BusError("the connection is closed", errno: ENOTCONN) }
      var message: OpaquePointer?
      try checkBus(
        sd_bus_message_new_method_call(bus, &message, destination, path, interface, member),
        "sd_bus_message_new_method_call")
      guard let message else { throw BusError("sd_bus_message_new_method_call", errno: ENOMEM) }
      let request = Message(owning: message)
      try arguments(request)
      try checkBus(
        sd_bus_call_async(
          bus, &call.slot, request.pointer, BusCall.takeReply, Unmanaged.passUnretained(call).toOpaque(), .max),
        "sd_bus_call_async")
      // libsystemd's own time-out begins only once the peer has completed the authentication, which it may never do.
      do throws(SystemdError) {
        call.timer = try loop.addTimer(after: timeout) { [weak call] in call?.complete(.failure(.timedOut(member))) }
      } catch {
        throw BusError(error.call, errno: error.errno)
      }
      calls[key] = call
    } catch {
      failLater(call, error)
    }
    return call
  }

  private func failLater(_ call: BusCall, _ error: BusError) {
    do {
      try loop.post { call.complete(.failure(error)) }
    } catch {
      call.complete(.failure(BusError("sd_event_add_defer", errno: ENOMEM)))
    }
  }

  /// Asks for a property.
  ///
  /// The method is `org.freedesktop.DBus.Properties.Get`.
  ///
  /// - Parameters:
  ///   - destination: the peer's bus name.
  ///   - path: the object.
  ///   - interface: the interface that has the property.
  ///   - name: the property.
  ///   - type: the signature that its value must have.
  ///   - timeout: how long to wait for the answer, in microseconds.
  ///   - read: reads the value from the answer.
  ///   - completion: takes the value.
  /// - Returns: a handle by which the answer can be declined; it need not be kept.
  @discardableResult
  public func property<Value>(
    _ destination: String, _ path: String, _ interface: String, _ name: String, type: String,
    timeout: UInt64 = 5_000_000, read: @escaping (Message) throws(BusError) -> Value,
    completion: @escaping (Result<Value, BusError>) -> Void
  ) -> BusCall {
    call(
      destination, path, "org.freedesktop.DBus.Properties", "Get", timeout: timeout,
      arguments: { message throws(BusError) in
        try message.append(interface)
        try message.append(name)
      },
      completion: { result in
        completion(result.reading { message throws(BusError) in try message.readVariant(of: type, read) })
      })
  }
}

extension Result where Success == Message, Failure == BusError {
  /// The value that is read from an answer, or why there is none.
  ///
  /// - Parameter read: reads it.
  public func reading<Value>(_ read: (Message) throws(BusError) -> Value) -> Result<Value, BusError> {
    switch self {
    case .success(let message):
      do throws(BusError) {
        return .success(try read(message))
      } catch {
        return .failure(error)
      }
    case .failure(let error): return .failure(error)
    }
  }
}
