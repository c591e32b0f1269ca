/// One unit of a systemd: its states, and when they change.
extension Manager {
  /// How a unit is.
  public struct UnitState: Sendable, Equatable {
    /// `loaded`, `not-found`, `masked`, …
    public var load = ""
    /// `active`, `inactive`, `failed`, `activating`, …
    public var active = ""
    /// The state in the words of the unit's type.
    public var sub = ""
    /// The text of `Description=`.
    public var description = ""
  }

  /// How a unit's last run ended, as far as its type has that.
  public struct UnitResult: Sendable, Equatable {
    /// `success`, `exit-code`, `signal`, `timeout`, `start-limit-hit`, …
    public var result = ""
    /// `CLD_EXITED` is 1, `CLD_KILLED` 2, `CLD_DUMPED` 3; 0 where no process has ended.
    public var code: Int32 = 0
    /// The exit status, or the number of the signal.
    public var status: Int32 = 0
  }

  private static let service = "org.freedesktop.systemd1"

  /// Loads a unit and tells its object's path. The method is `LoadUnit`, which answers for units that do not exist, too.
  @discardableResult
  public func loadUnit(_ name: String, _ completion: @escaping (Result<String, BusError>) -> Void) -> BusCall {
    bus.call(
      Self.service, "/org/freedesktop/systemd1", "\(Self.service).Manager", "LoadUnit", timeout: timeout,
      arguments: { message throws(BusError) in try message.append(name) },
      completion: { answer in
        completion(answer.reading { message throws(BusError) in try message.readObjectPath() })
      })
  }

  /// Asks how a unit is.
  ///
  /// - Parameter path: the unit's object.
  public func unitState(_ path: String, _ completion: @escaping (Result<UnitState, BusError>) -> Void) {
    let interface = "\(Self.service).Unit"
    // One question after the other: each has a time-out of its own, and the first that fails ends it.
    text(path, interface, "LoadState") { load in
      guard case .success(let load) = load else { return completion(load.map { _ in UnitState() }) }
      self.text(path, interface, "Description") { description in
        self.text(path, interface, "SubState") { sub in
          self.text(path, interface, "ActiveState") { active in
            completion(
              active.map {
                UnitState(
                  load: load, active: $0, sub: (try? sub.get()) ?? "", description: (try? description.get()) ?? "")
              })
          }
        }
      }
    }
  }

  /// Asks how a unit's last run ended; what its type has not is left out.
  ///
  /// - Parameters:
  ///   - path: the unit's object.
  ///   - type: what its name ends in, such as `service`.
  public func unitResult(_ path: String, type: String, _ completion: @escaping (UnitResult) -> Void) {
    guard let first = type.first else { return completion(UnitResult()) }
    let interface = "\(Self.service).\(first.uppercased())\(type.dropFirst())"
    text(path, interface, "Result") { result in
      self.number(path, interface, "ExecMainCode") { code in
        self.number(path, interface, "ExecMainStatus") { status in
          completion(
            UnitResult(
              result: (try? result.get()) ?? "", code: (try? code.get()) ?? 0, status: (try? status.get()) ?? 0))
        }
      }
    }
  }

  /// Hears of changes of a unit's properties. The signal is `PropertiesChanged`; it comes to who has subscribed.
  ///
  /// - Parameter path: the unit's object.
  public func unitChanged(_ path: String, _ handler: @escaping () -> Void) throws(BusError) -> BusMatch {
    try bus.match(
      sender: Self.service, path: path, interface: "org.freedesktop.DBus.Properties", member: "PropertiesChanged"
    ) { _ in handler() }
  }

  private func text(
    _ path: String, _ interface: String, _ name: String, _ completion: @escaping (Result<String, BusError>) -> Void
  ) {
    _ = bus.property(
      Self.service, path, interface, name, type: "s", timeout: timeout,
      read: { message throws(BusError) in try message.readString(limit: 256) }, completion: completion)
  }

  private func number(
    _ path: String, _ interface: String, _ name: String, _ completion: @escaping (Result<Int32, BusError>) -> Void
  ) {
    _ = bus.property(
      Self.service, path, interface, name, type: "i", timeout: timeout,
      read: { message throws(BusError) in try message.readInt32() }, completion: completion)
  }
}
