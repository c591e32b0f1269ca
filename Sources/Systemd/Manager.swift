/// The systemd behind a bus connection: a machine's PID 1, or the host's.
///
/// What it says about itself comes from a machine: bounded here, to be escaped where it is shown.
public final class Manager {
  /// One unit, as `ListUnits` has it.
  public struct Unit: Sendable, Equatable {
    /// The name, such as `ssh.service`.
    public var name: String
    /// The text of `Description=`.
    public var description: String
    /// `loaded`, `not-found`, `masked`, …
    public var loadState: String
    /// `active`, `inactive`, `failed`, `activating`, …
    public var activeState: String
    /// The state in the words of the unit's type, such as `running` or `exited`.
    public var subState: String
    /// The kind of job that waits for it, or nothing.
    public var jobType: String
  }

  /// A job that came to its end.
  public struct RemovedJob: Sendable, Equatable {
    /// The job's number.
    public var id: UInt32
    /// The unit's name.
    public var unit: String
    /// `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, …
    public var result: String
  }

  /// The connection.
  public let bus: Bus
  /// How long to wait for each answer, in microseconds.
  public var timeout: UInt64

  static let name = "org.freedesktop.systemd1"
  static let path = "/org/freedesktop/systemd1"
  static let interface = "org.freedesktop.systemd1.Manager"

  /// Makes the manager behind a connection.
  ///
  /// - Parameters:
  ///   - bus: a connection to a bus that it is on, or directly to it.
  ///   - timeout: how long to wait for each answer, in microseconds.
  public init(bus: Bus, timeout: UInt64 = 5_000_000) {
    self.bus = bus
    self.timeout = timeout
  }

  /// Asks how the system is: `initializing`, `starting`, `running`, `degraded`, `maintenance`, `stopping`.
  ///
  /// The property is `SystemState`.
  @discardableResult
  public func systemState(_ completion: @escaping (Result<String, BusError>) -> Void) -> BusCall {
    property("SystemState", "s", { message throws(BusError) in try message.readString(limit: 64) }, completion)
  }

  /// Asks for systemd's version. The property is `Version`.
  @discardableResult
  public func version(_ completion: @escaping (Result<String, BusError>) -> Void) -> BusCall {
    property("Version", "s", { message throws(BusError) in try message.readString(limit: 256) }, completion)
  }

  /// Asks how far the boot is, from 0 to 1. The property is `Progress`.
  @discardableResult
  public func progress(_ completion: @escaping (Result<Double, BusError>) -> Void) -> BusCall {
    property(
      "Progress", "d",
      { message throws(BusError) in
        let value = try message.readDouble()
        // A machine may send anything, and a bar of NaN percent cannot be drawn.
        return value.isFinite ? min(max(value, 0), 1) : 0
      }, completion)
  }

  /// Asks how many jobs wait or run. The property is `NJobs`.
  @discardableResult
  public func jobCount(_ completion: @escaping (Result<UInt32, BusError>) -> Void) -> BusCall {
    property("NJobs", "u", { message throws(BusError) in try message.readUInt32() }, completion)
  }

  /// Asks how many jobs there were since the start. The property is `NInstalledJobs`.
  @discardableResult
  public func installedJobCount(_ completion: @escaping (Result<UInt32, BusError>) -> Void) -> BusCall {
    property("NInstalledJobs", "u", { message throws(BusError) in try message.readUInt32() }, completion)
  }

  /// Asks for the first 10,000 loaded units. The method is `ListUnits`.
  @discardableResult
  public func listUnits(_ completion: @escaping (Result<[Unit], BusError>) -> Void) -> BusCall {
    call("ListUnits", completion: { completion($0.reading(Self.units)) })
  }

  /// Asks for the first 10,000 failed units. The method is `ListUnitsFiltered`.
  @discardableResult
  public func listFailedUnits(_ completion: @escaping (Result<[Unit], BusError>) -> Void) -> BusCall {
    call(
      "ListUnitsFiltered", arguments: { message throws(BusError) in try message.append(["failed"]) },
      completion: { completion($0.reading(Self.units)) })
  }

  /// Asks for signals; without it none but `startupFinished` need come. The method is `Subscribe`.
  @discardableResult
  public func subscribe(_ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    perform("Subscribe", completion)
  }

  /// Stops all services and powers off. The method is `StartUnit` of `poweroff.target`.
  ///
  /// `PowerOff` itself would end the system at once, without stopping any service.
  @discardableResult
  public func powerOff(_ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    start("poweroff.target", completion)
  }

  /// Stops all services and reboots. The method is `StartUnit` of `reboot.target`.
  @discardableResult
  public func reboot(_ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    start("reboot.target", completion)
  }

  /// Stops all services and halts. The method is `StartUnit` of `halt.target`.
  @discardableResult
  public func halt(_ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    start("halt.target", completion)
  }

  /// Hears of jobs that come to their end. The signal is `JobRemoved`.
  public func jobRemoved(_ handler: @escaping (RemovedJob) -> Void) throws(BusError) -> BusMatch {
    try signal("JobRemoved", handler) { message throws(BusError) in
      let id = try message.readUInt32()
      try message.skip("o")
      return RemovedJob(id: id, unit: try message.readString(limit: 256), result: try message.readString(limit: 64))
    }
  }

  /// Hears of the end of the boot, with its whole duration in microseconds. The signal is `StartupFinished`.
  public func startupFinished(_ handler: @escaping (UInt64) -> Void) throws(BusError) -> BusMatch {
    try signal("StartupFinished", handler) { message throws(BusError) in
      try message.skip("ttttt")
      return try message.readUInt64()
    }
  }

  /// Hears of units that are loaded, by name. The signal is `UnitNew`.
  public func unitNew(_ handler: @escaping (String) -> Void) throws(BusError) -> BusMatch {
    try signal("UnitNew", handler) { message throws(BusError) in try message.readString(limit: 256) }
  }

  func call(
    _ member: String, arguments: (Message) throws(BusError) -> Void = { _ in },
    completion: @escaping (Result<Message, BusError>) -> Void
  ) -> BusCall {
    bus.call(
      Self.name, Self.path, Self.interface, member, timeout: timeout, arguments: arguments, completion: completion)
  }

  func perform(_ member: String, _ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    call(member, completion: { completion($0.map { _ in }) })
  }

  private func start(_ unit: String, _ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    call(
      "StartUnit",
      arguments: { message throws(BusError) in
        try message.append(unit)
        // As systemctl does: a shutdown replaces what is queued, and nothing may replace the shutdown.
        try message.append("replace-irreversibly")
      },
      completion: { completion($0.map { _ in }) })
  }

  private func property<Value>(
    _ name: String, _ type: String, _ read: @escaping (Message) throws(BusError) -> Value,
    _ completion: @escaping (Result<Value, BusError>) -> Void
  ) -> BusCall {
    bus.property(
      Self.name, Self.path, Self.interface, name, type: type, timeout: timeout, read: read, completion: completion)
  }

  func signal<Value>(
    _ member: String, _ handler: @escaping (Value) -> Void, _ read: @escaping (Message) throws(BusError) -> Value
  ) throws(BusError) -> BusMatch {
    try bus.match(sender: Self.name, path: Self.path, interface: Self.interface, member: member) { message in
      // A signal of another shape is none of systemd's.
      do {
        handler(try read(message))
      } catch {}
    }
  }

  private static func units(_ message: Message) throws(BusError) -> [Unit] {
    var units: [Unit] = []
    try message.readArray(of: "(ssssssouso)") { message throws(BusError) in
      try message.readStruct(of: "ssssssouso") { message throws(BusError) in
        var unit = Unit(
          name: try message.readString(limit: 256), description: try message.readString(limit: 1024),
          loadState: try message.readString(limit: 64), activeState: try message.readString(limit: 64),
          subState: try message.readString(limit: 64), jobType: "")
        try message.skip("sou")
        unit.jobType = try message.readString(limit: 64)
        try message.skip("o")
        units.append(unit)
      }
    }
    return units
  }
}
