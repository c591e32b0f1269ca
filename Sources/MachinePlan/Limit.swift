import MachineSpec

/// One limit of a machine, in the two forms that hosts take it in: files of a control group, and a property of a unit.
///
/// Limits are put on the machine's group, which is not delegated, so that the machine cannot lift them.
public struct Limit: Sendable, Equatable {
  /// The key of the spec that asks for it.
  public var key: String
  /// The device's number, for a key that has a limit for each device.
  public var device: String?
  /// The controller that keeps it; empty where none does.
  public var controller: String
  /// What is written, in this order.
  public var writes: [CgroupWrite]
  /// What is written to be without it.
  public var resets: [CgroupWrite]
  /// The same for a unit.
  public var property: LimitProperty
  /// The property without it.
  public var unsetProperty: LimitProperty

  /// The way back to having no such limit.
  public var reset: Limit {
    var limit = self
    swap(&limit.writes, &limit.resets)
    swap(&limit.property, &limit.unsetProperty)
    return limit
  }

  /// Whether two limits exclude each other: they say the same thing in other numbers.
  public func replaces(_ other: Limit) -> Bool { key == other.key && device == other.device }
}

/// One write to a file of a control group.
public struct CgroupWrite: Sendable, Equatable {
  /// The file's name in the group.
  public var file: String
  /// What is written, without an end of line.
  public var value: String
  /// Whether the machine's own group gets it as well, so that what looks there sees how much it has. The file belongs
  /// to the host in either group.
  public var isShown = false
  /// What to write where the kernel does not have the file.
  public var instead: Instead?

  /// A second choice of file.
  public struct Instead: Sendable, Equatable {
    /// The file's name in the group.
    public var file: String
    /// What is written.
    public var value: String
  }
}

/// A limit as a property of a systemd unit, as `SetUnitProperties` and `StartTransientUnit` take it.
public struct LimitProperty: Sendable, Equatable {
  /// A value with its type on the bus.
  public enum Value: Sendable, Equatable {
    /// `t`; the greatest number is "none".
    case number(UInt64)
    /// `ay`: a set of numbers, a bit for each, the lowest first.
    case bits([UInt8])
    /// `a(st)`: one device's limit; the greatest number takes it away.
    case device(path: String, limit: UInt64)
    /// `a(ss)`: all devices that may be used; none is no rule at all.
    case devices([DeviceRule])
  }

  /// The property's name.
  public var name: String
  /// Its value.
  public var value: Value
}

extension Limit {
  /// A limit to set and what takes it back.
  public struct Change: Sendable, Equatable {
    /// What is to hold.
    public var limit: Limit
    /// What held before.
    public var before: Limit
  }

  /// What has to be done to go from some limits to others.
  ///
  /// - Parameters:
  ///   - old: the limits that hold.
  ///   - new: those that are to hold.
  public static func changes(from old: [Limit], to new: [Limit]) -> [Change] {
    let set = new.filter { !old.contains($0) }.map { limit in
      Change(limit: limit, before: old.first(where: limit.replaces) ?? limit.reset)
    }
    let gone = old.filter { limit in !new.contains(where: limit.replaces) }
    return gone.map { Change(limit: $0.reset, before: $0) } + set
  }
}

extension Limit: CustomStringConvertible {
  /// The writes, as a line of a plan.
  public var description: String {
    if case .devices(let rules) = property.value {
      return "allow \(rules.isEmpty ? "every device" : rules.map(\.description).joined(separator: ", ")) for \(key)="
    }
    let files = writes.map { "\($0.file) to '\($0.value)'" }.joined(separator: " and ")
    return "set \(files) for \(key)="
  }
}
