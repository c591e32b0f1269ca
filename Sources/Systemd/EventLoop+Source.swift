import CSystemd

extension EventLoop {
  /// One thing that a loop waits for. It ends with `cancel`, or when the last reference to it goes.
  ///
  /// A callback may cancel its own source, or let it go.
  public final class Source {
    enum Handler {
      case plain(() -> Void)
      case io((IOEvents) -> Void)
      case signal((SignalInfo) -> Void)
      case inotify((InotifyEvent) -> Void)
    }

    var pointer: OpaquePointer?
    /// Each event leaves the source resting.
    var isOneShot = false
    private(set) var handler: Handler?
    private var prepare: (() -> Void)?

    init(_ handler: Handler) {
      self.handler = handler
    }

    deinit {
      sd_event_source_disable_unref(pointer)
    }

    /// Ends the source for good, and lets its closure go.
    ///
    /// Call it before closing a descriptor that is being watched. The corresponding C function is
    /// `sd_event_source_disable_unref`.
    public func cancel() {
      pointer = sd_event_source_disable_unref(pointer)
      handler = nil
      prepare = nil
    }

    /// The source has not been cancelled.
    public var isActive: Bool { pointer != nil }

    /// Changes what a descriptor is watched for.
    ///
    /// The corresponding C function is `sd_event_source_set_io_events`.
    ///
    /// - Parameter events: the new events.
    public func setEvents(_ events: IOEvents) throws(SystemdError) {
      guard let pointer else { return }
      try check(sd_event_source_set_io_events(pointer, events.rawValue), "sd_event_source_set_io_events")
    }

    /// Lets the source rest, or wakes it again; a timer or a child wakes for one more time.
    ///
    /// The corresponding C function is `sd_event_source_set_enabled`.
    ///
    /// - Parameter enabled: false to rest.
    public func setEnabled(_ enabled: Bool) throws(SystemdError) {
      guard let pointer else { return }
      let on = isOneShot ? SD_EVENT_ONESHOT : SD_EVENT_ON
      try check(
        sd_event_source_set_enabled(pointer, Int32(enabled ? on : SD_EVENT_OFF)), "sd_event_source_set_enabled")
    }

    /// Sets a timer once more.
    ///
    /// The corresponding C function is `sd_event_source_set_time_relative`.
    ///
    /// - Parameter delay: the time from now, in microseconds.
    public func rearm(after delay: UInt64) throws(SystemdError) {
      guard let pointer else { return }
      try check(sd_event_source_set_time_relative(pointer, Self.bounded(delay)), "sd_event_source_set_time_relative")
      try setEnabled(true)
    }

    /// Sets a timer to a moment of the monotonic clock, in microseconds.
    func rearm(at time: UInt64) throws(SystemdError) {
      guard let pointer else { return }
      try check(sd_event_source_set_time(pointer, time), "sd_event_source_set_time")
      try setEnabled(true)
    }

    /// Says which of several pending sources comes first.
    ///
    /// The corresponding C function is `sd_event_source_set_priority`.
    ///
    /// - Parameter priority: lower comes first; 0 is what a source starts with.
    public func setPriority(_ priority: Int64) throws(SystemdError) {
      guard let pointer else { return }
      try check(sd_event_source_set_priority(pointer, priority), "sd_event_source_set_priority")
    }

    /// Runs a closure each time before the loop goes to sleep.
    func setPrepare(_ body: @escaping () -> Void) throws(SystemdError) {
      guard let pointer else { return }
      prepare = body
      try check(
        sd_event_source_set_prepare(pointer) { _, data in
          Source.from(data)?.prepare?()
          return 0
        }, "sd_event_source_set_prepare")
    }

    /// A delay that libsystemd does not take for an overflow: 36,000 years at most.
    static func bounded(_ delay: UInt64) -> UInt64 { min(delay, 1 << 60) }

    static func from(_ data: UnsafeMutableRawPointer?) -> Source? {
      data.map { Unmanaged<Source>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Runs the closure of a source without arguments; the closure is held while it runs, even if it cancels its source.
    static func runPlain(_ data: UnsafeMutableRawPointer?) -> Int32 {
      if let source = from(data), case .plain(let body) = source.handler { body() }
      return 0
    }
  }
}
