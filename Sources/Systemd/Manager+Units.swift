import Glibc

/// A property of a unit, as a transient unit gets it or a loaded one is changed.
public struct UnitProperty: Sendable, Equatable {
  /// What a property may hold, in the types that systemd has.
  public enum Value: Sendable, Equatable {
    /// `b`
    case flag(Bool)
    /// `s`
    case text(String)
    /// `t`; `UInt64.max` stands for no limit.
    case number(UInt64)
    /// `as`
    case texts([String])
    /// `au`
    case numbers([UInt32])
    /// `ay`
    case bytes([UInt8])
    /// `a(st)`, such as the devices' bandwidths.
    case amounts([Amount])
    /// `a(ss)`, such as the allowed devices.
    case pairs([Pair])
  }

  /// A text with a number.
  public struct Amount: Sendable, Equatable {
    /// The text, such as the path of a device.
    public var text: String
    /// The number.
    public var number: UInt64

    /// A text with a number.
    public init(_ text: String, _ number: UInt64) {
      self.text = text
      self.number = number
    }
  }

  /// Two texts.
  public struct Pair: Sendable, Equatable {
    /// The first, such as the path of a device.
    public var first: String
    /// The second, such as what may be done with it.
    public var second: String

    /// Two texts.
    public init(_ first: String, _ second: String) {
      self.first = first
      self.second = second
    }
  }

  /// The name, such as `MemoryMax`.
  public var name: String
  /// The value.
  public var value: Value

  /// A property.
  public init(_ name: String, _ value: Value) {
    self.name = name
    self.value = value
  }

  func append(to message: Message) throws(BusError) {
    try message.appendStruct(of: "sv") { message throws(BusError) in
      try message.append(name)
      try message.appendVariant(of: signature) { message throws(BusError) in try appendValue(to: message) }
    }
  }

  private var signature: String {
    switch value {
    case .flag: "b"
    case .text: "s"
    case .number: "t"
    case .texts: "as"
    case .numbers: "au"
    case .bytes: "ay"
    case .amounts: "a(st)"
    case .pairs: "a(ss)"
    }
  }

  private func appendValue(to message: Message) throws(BusError) {
    switch value {
    case .flag(let value): try message.append(value)
    case .text(let value): try message.append(value)
    case .number(let value): try message.append(value)
    case .texts(let values): try message.append(values)
    case .bytes(let values): try message.append(bytes: values)
    case .numbers(let values):
      try message.appendArray(of: "u") { message throws(BusError) in
        for value in values { try message.append(value) }
      }
    case .amounts(let values):
      try message.appendArray(of: "(st)") { message throws(BusError) in
        for value in values {
          try message.appendStruct(of: "st") { message throws(BusError) in
            try message.append(value.text)
            try message.append(value.number)
          }
        }
      }
    case .pairs(let values):
      try message.appendArray(of: "(ss)") { message throws(BusError) in
        for value in values {
          try message.appendStruct(of: "ss") { message throws(BusError) in
            try message.append(value.first)
            try message.append(value.second)
          }
        }
      }
    }
  }
}

extension Manager {
  /// Asks for a unit that is there until it stops or the host goes down. The method is `StartTransientUnit`.
  ///
  /// - Parameters:
  ///   - unit: its name, such as `web.scope`.
  ///   - properties: what it gets.
  ///   - completion: takes the number of the job that starts it; the unit is not there yet then.
  @discardableResult
  public func startTransientUnit(
    _ unit: String, _ properties: [UnitProperty], _ completion: @escaping (Result<UInt32, BusError>) -> Void
  ) -> BusCall {
    call(
      "StartTransientUnit",
      arguments: { message throws(BusError) in
        try message.append(unit)
        try message.append("fail")
        try message.appendArray(of: "(sv)") { message throws(BusError) in
          for property in properties { try property.append(to: message) }
        }
        // No auxiliary units.
        try message.appendArray(of: "(sa(sv))") { _ throws(BusError) in }
      }, completion: { completion($0.reading(Self.job)) })
  }

  /// Asks for the end of a unit. The method is `StopUnit`.
  ///
  /// - Parameters:
  ///   - unit: its name.
  ///   - completion: takes the number of the job that stops it.
  @discardableResult
  public func stopUnit(_ unit: String, _ completion: @escaping (Result<UInt32, BusError>) -> Void) -> BusCall {
    call(
      "StopUnit",
      arguments: { message throws(BusError) in
        try message.append(unit)
        try message.append("replace")
      }, completion: { completion($0.reading(Self.job)) })
  }

  /// Changes properties of a loaded unit. The method is `SetUnitProperties`.
  ///
  /// - Parameters:
  ///   - unit: its name.
  ///   - isRuntime: whether the change is forgotten when the host goes down.
  ///   - properties: what changes.
  @discardableResult
  public func setUnitProperties(
    _ unit: String, isRuntime: Bool = true, _ properties: [UnitProperty],
    _ completion: @escaping (Result<Void, BusError>) -> Void
  ) -> BusCall {
    call(
      "SetUnitProperties",
      arguments: { message throws(BusError) in
        try message.append(unit)
        try message.append(isRuntime)
        try message.appendArray(of: "(sv)") { message throws(BusError) in
          for property in properties { try property.append(to: message) }
        }
      }, completion: { completion($0.map { _ in }) })
  }

  /// Hears of scopes of ours that are asked to stop; sent only to the one that is named as their controller. The signal
  /// is `RequestStop`.
  public func stopRequested(_ handler: @escaping () -> Void) throws(BusError) -> BusMatch {
    try bus.match(sender: Self.name, interface: "org.freedesktop.systemd1.Scope", member: "RequestStop") { _ in
      handler()
    }
  }

  /// A job is an object whose path ends in its number.
  private static func job(_ message: Message) throws(BusError) -> UInt32 {
    let path = try message.readObjectPath(limit: 256)
    guard let last = path.split(separator: "/").last, let id = UInt32(last) else {
      throw BusError("no job, but '\(path)'", errno: EBADMSG)
    }
    return id
  }
}
