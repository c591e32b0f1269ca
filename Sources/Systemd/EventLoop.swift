import CSystemd
import Glibc

/// The loop that everything in a supervisor runs on: one thread, no locks, callbacks.
///
/// Each `add…` returns a `Source` that must be kept: letting it go ends it.
public final class EventLoop {
  let pointer: OpaquePointer
  private var posted: [ObjectIdentifier: Source] = [:]

  /// Makes a loop of its own, never the thread's default one, which libraries may share.
  ///
  /// The corresponding C function is `sd_event_new`.
  public init() throws(SystemdError) {
    var event: OpaquePointer?
    try check(sd_event_new(&event), "sd_event_new")
    guard let event else { throw SystemdError("sd_event_new", errno: ENOMEM) }
    pointer = event
  }

  deinit {
    posted = [:]
    sd_event_unref(pointer)
  }

  /// Runs until `exit` is called.
  ///
  /// The corresponding C function is `sd_event_loop`.
  ///
  /// - Returns: the code that was given to `exit`.
  public func run() throws(SystemdError) -> Int32 {
    try check(sd_event_loop(pointer), "sd_event_loop")
  }

  /// Waits for one event and runs its callback.
  ///
  /// The corresponding C function is `sd_event_run`.
  ///
  /// - Parameter timeout: how long to wait, in microseconds; nil waits for ever.
  /// - Returns: whether there was an event.
  @discardableResult
  public func runOnce(timeout: UInt64? = nil) throws(SystemdError) -> Bool {
    try check(sd_event_run(pointer, timeout ?? .max), "sd_event_run") > 0
  }

  /// Makes `run` return once the present callback has returned.
  ///
  /// The corresponding C function is `sd_event_exit`.
  ///
  /// - Parameter code: what `run` returns, zero or above.
  public func exit(_ code: Int32) {
    sd_event_exit(pointer, max(code, 0))
  }

  /// The monotonic clock as of the present turn of the loop, in microseconds.
  ///
  /// The corresponding C function is `sd_event_now`.
  public var now: UInt64 {
    var time: UInt64 = 0
    sd_event_now(pointer, CLOCK_MONOTONIC, &time)
    return time
  }

  /// Sends the service manager's keep-alive messages, if it asked for any in `WATCHDOG_USEC`.
  ///
  /// The corresponding C function is `sd_event_set_watchdog`.
  ///
  /// - Returns: whether it asked.
  @discardableResult
  public func enableWatchdog() throws(SystemdError) -> Bool {
    try check(sd_event_set_watchdog(pointer, 1), "sd_event_set_watchdog") > 0
  }

  /// Runs a closure once, on the next turn of the loop; nothing has to be kept.
  ///
  /// - Parameter body: the closure.
  public func post(_ body: @escaping () -> Void) throws(SystemdError) {
    var key: ObjectIdentifier?
    let source = try addDefer { [weak self] in
      if let key { self?.posted[key] = nil }
      body()
    }
    key = ObjectIdentifier(source)
    posted[ObjectIdentifier(source)] = source
  }

  /// Registers a source whose C callback gets the unretained `Source` as its user data.
  ///
  /// `Source` ends the registration before it is freed, so that pointer never dangles.
  func add(
    _ call: String, _ handler: Source.Handler,
    _ register: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutableRawPointer) -> Int32
  ) throws(SystemdError) -> Source {
    let source = Source(handler)
    var pointer: OpaquePointer?
    try check(register(&pointer, Unmanaged.passUnretained(source).toOpaque()), call)
    source.pointer = pointer
    return source
  }
}
