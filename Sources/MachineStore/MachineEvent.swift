import CLinux
import MachineSpec
import Varlink

/// One change of one machine, as `hengectl events` tells it.
public struct MachineEvent: Sendable {
  /// When, in microseconds since 1970.
  public var time: UInt64
  /// The machine.
  public var machine: String
  /// What happened: `created`, `starting`, `running`, `stopped`, …
  public var event: String
  /// What else is known of it: text, numbers and lists of text, bounded in size.
  public var details: JSONObject

  /// How many bytes of a text in the details are kept.
  private static let textLimit = 512
  /// How many elements of a list are kept.
  private static let listLimit = 20

  /// An event of this moment.
  ///
  /// - Parameters:
  ///   - machine: the machine.
  ///   - event: what happened.
  ///   - details: what else is known; what is too long is cut, because a machine may have said it.
  public init(_ machine: MachineName, _ event: String, details: JSON = [:]) {
    time = clinux_unix_microseconds()
    self.machine = machine.description
    self.event = event
    var bounded = JSONObject()
    if case .object(let object) = details {
      for entry in object.entries.prefix(Self.listLimit) { bounded[entry.key] = Self.bounded(entry.value) }
    }
    self.details = bounded
  }

  private static func bounded(_ value: JSON) -> JSON? {
    switch value {
    case .string(let text): return .string(cut(text))
    case .array(let elements): return .array(elements.prefix(listLimit).compactMap(bounded))
    case .null, .object: return nil
    default: return value
    }
  }

  private static func cut(_ text: String) -> String {
    text.utf8.count <= textLimit ? text : String(decoding: text.utf8.prefix(textLimit - 3), as: UTF8.self) + "…"
  }

  /// The event as a JSON object.
  public var json: JSON {
    var object: JSON = ["time": JSON(time), "machine": .string(machine), "event": .string(event)]
    if !details.isEmpty { object["details"] = .object(details) }
    return object
  }

  /// Reads an event; nil for what is none.
  public init?(json: JSON) {
    guard let time = json["time"]?.intValue.flatMap({ UInt64(exactly: $0) }),
      let machine = json["machine"]?.stringValue, let event = json["event"]?.stringValue
    else { return nil }
    self.time = time
    self.machine = machine
    self.event = event
    details = JSONObject()
    if case .object(let found)? = json["details"] { details = found }
  }

  /// Whether the event is of a machine, or says that it was made from it or is called so now.
  public func concerns(_ name: String) -> Bool {
    machine == name || details["to"]?.stringValue == name || details["from"]?.stringValue == name
  }
}
