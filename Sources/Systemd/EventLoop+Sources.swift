import CSystemd
import Glibc

/// What a descriptor is ready for; the values are those of `epoll`.
public struct IOEvents: OptionSet, Sendable {
  /// The bits of `epoll_event.events`.
  public let rawValue: UInt32

  /// Makes a set of `epoll` bits.
  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// There is something to read, or the end of it.
  public static let readable = IOEvents(rawValue: 0x1)
  /// There is room to write.
  public static let writable = IOEvents(rawValue: 0x4)
  /// Something out of the ordinary: of the kernel's own files, that what they say has changed.
  public static let priority = IOEvents(rawValue: 0x2)
  /// An error waits; always watched for.
  public static let error = IOEvents(rawValue: 0x8)
  /// Both directions are closed; always watched for.
  public static let hangUp = IOEvents(rawValue: 0x10)
  /// The peer writes no more.
  public static let readHangUp = IOEvents(rawValue: 0x2000)
  /// Report changes only, not states.
  public static let edgeTriggered = IOEvents(rawValue: 1 << 31)
}

/// A signal that arrived, and where from.
public struct SignalInfo: Sendable {
  /// The signal's number.
  public var signal: Int32
  /// The process that sent it; 0 for one outside our pid namespace or for the kernel.
  public var senderPID: Int32
  /// That process's real user id.
  public var senderUID: UInt32
}

/// A change in a watched file or folder.
public struct InotifyEvent: Sendable {
  /// The `IN_` bits of what happened.
  public var mask: UInt32
  /// The name within the watched folder, if there is one; bytes that are no UTF-8 are replaced.
  public var name: String?
}

extension EventLoop {
  /// Watches a descriptor, level-triggered unless `edgeTriggered` is asked for.
  ///
  /// The corresponding C function is `sd_event_add_io`.
  ///
  /// - Parameters:
  ///   - descriptor: what to watch; it stays the caller's, and must outlive the source.
  ///   - events: what to wait for.
  ///   - body: called with what it is ready for.
  public func addIO(
    _ descriptor: Int32, _ events: IOEvents, _ body: @escaping (IOEvents) -> Void
  ) throws(SystemdError) -> Source {
    try add("sd_event_add_io", .io(body)) { slot, data in
      sd_event_add_io(
        pointer, slot, descriptor, events.rawValue,
        { _, _, events, data in
          if let source = Source.from(data), case .io(let body) = source.handler { body(IOEvents(rawValue: events)) }
          return 0
        }, data)
    }
  }

  /// Waits for the end of a process. The source rests after that, and the caller collects the exit status with
  /// `waitid(P_PIDFD)`.
  ///
  /// The corresponding C function is `sd_event_add_io`: a pidfd is readable once its process has ended.
  ///
  /// - Parameters:
  ///   - pidfd: the process; it stays the caller's, and must outlive the source.
  ///   - body: called once.
  public func addChild(pidfd: Int32, _ body: @escaping () -> Void) throws(SystemdError) -> Source {
    let source = try addIO(pidfd, .readable) { _ in body() }
    // A dead process stays readable for ever.
    source.isOneShot = true
    try source.setEnabled(true)
    return source
  }

  /// Blocks a signal for this thread and takes it as an event.
  ///
  /// The corresponding C functions are `pthread_sigmask` and `sd_event_add_signal`.
  ///
  /// - Parameters:
  ///   - signal: the signal's number.
  ///   - body: called for each arrival; several that came at once may be one.
  public func addSignal(_ signal: Int32, _ body: @escaping (SignalInfo) -> Void) throws(SystemdError) -> Source {
    var set = sigset_t()
    sigemptyset(&set)
    guard sigaddset(&set, signal) == 0 else { throw SystemdError("sigaddset", errno: EINVAL) }
    try check(-pthread_sigmask(SIG_BLOCK, &set, nil), "pthread_sigmask")
    return try add("sd_event_add_signal", .signal(body)) { slot, data in
      sd_event_add_signal(
        pointer, slot, signal,
        { _, info, data in
          guard let info, let source = Source.from(data), case .signal(let body) = source.handler else { return 0 }
          body(
            SignalInfo(
              signal: Int32(truncatingIfNeeded: info.pointee.ssi_signo),
              senderPID: Int32(truncatingIfNeeded: info.pointee.ssi_pid), senderUID: info.pointee.ssi_uid))
          return 0
        }, data)
    }
  }

  /// Calls a closure once after a while; `rearm` sets it again.
  ///
  /// The corresponding C function is `sd_event_add_time_relative`, on the monotonic clock.
  ///
  /// - Parameters:
  ///   - delay: the time from now, in microseconds.
  ///   - accuracy: how much later it may be, in microseconds, so that wake-ups can be shared.
  ///   - body: the closure.
  public func addTimer(
    after delay: UInt64, accuracy: UInt64 = 1000, _ body: @escaping () -> Void
  ) throws(SystemdError) -> Source {
    let source = try add("sd_event_add_time_relative", .plain(body)) { slot, data in
      sd_event_add_time_relative(
        // An accuracy of 0 would stand for libsystemd's default, a quarter of a second.
        pointer, slot, CLOCK_MONOTONIC, Source.bounded(delay), max(accuracy, 1),
        { _, _, data in Source.runPlain(data) }, data)
    }
    source.isOneShot = true
    return source
  }

  /// Calls a closure once, on the next turn of the loop.
  ///
  /// The corresponding C function is `sd_event_add_defer`.
  ///
  /// - Parameter body: the closure.
  public func addDefer(_ body: @escaping () -> Void) throws(SystemdError) -> Source {
    let source = try add("sd_event_add_defer", .plain(body)) { slot, data in
      sd_event_add_defer(pointer, slot, { _, data in Source.runPlain(data) }, data)
    }
    source.isOneShot = true
    return source
  }

  /// Calls a closure each time after some other source was dispatched.
  ///
  /// The corresponding C function is `sd_event_add_post`.
  ///
  /// - Parameter body: the closure.
  public func addPost(_ body: @escaping () -> Void) throws(SystemdError) -> Source {
    try add("sd_event_add_post", .plain(body)) { slot, data in
      sd_event_add_post(pointer, slot, { _, data in Source.runPlain(data) }, data)
    }
  }

  /// Watches a file or folder by path.
  ///
  /// The corresponding C function is `sd_event_add_inotify`.
  ///
  /// - Parameters:
  ///   - path: a path that no machine controls.
  ///   - mask: `IN_` bits, such as `IN_CREATE | IN_MOVED_TO`.
  ///   - body: called for each change.
  public func addInotify(
    path: String, mask: UInt32, _ body: @escaping (InotifyEvent) -> Void
  ) throws(SystemdError) -> Source {
    guard !path.utf8.contains(0) else { throw SystemdError("sd_event_add_inotify", errno: EINVAL) }
    return try add("sd_event_add_inotify", .inotify(body)) { slot, data in
      sd_event_add_inotify(pointer, slot, path, mask, Self.takeInotify, data)
    }
  }

  /// Watches a file or folder that is open.
  ///
  /// The corresponding C function is `sd_event_add_inotify_fd`.
  ///
  /// - Parameters:
  ///   - descriptor: the file or folder, `O_PATH` is enough; it may be closed once this returns.
  ///   - mask: `IN_` bits, such as `IN_MODIFY`.
  ///   - body: called for each change.
  public func addInotify(
    descriptor: Int32, mask: UInt32, _ body: @escaping (InotifyEvent) -> Void
  ) throws(SystemdError) -> Source {
    try add("sd_event_add_inotify_fd", .inotify(body)) { slot, data in
      sd_event_add_inotify_fd(pointer, slot, descriptor, mask, Self.takeInotify, data)
    }
  }

  private static let takeInotify: sd_event_inotify_handler_t = { _, event, data in
    guard let event, let source = Source.from(data), case .inotify(let body) = source.handler else { return 0 }
    var name: String?
    // The kernel pads the name with NUL up to `len`.
    let length = Int(event.pointee.len)
    if length > 0 {
      let bytes = UnsafeRawBufferPointer(
        start: UnsafeRawPointer(event) + MemoryLayout<inotify_event>.size, count: length)
      name = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    body(InotifyEvent(mask: event.pointee.mask, name: name))
    return 0
  }
}
