import Linux
import MachineSpec
import Varlink

/// What is fixed when a machine is made and what only the store changes: `machine.json`.
public struct MachineRecord: Sendable, Equatable {
  /// What the machine's root is made of.
  public enum Root: Sendable, Equatable {
    /// Layers of an image, the lowest first, below a folder of the machine's own.
    case layers(image: String, folders: [String])
    /// A copy of an image, of the machine's own.
    case copy(image: String)
    /// A directory of the operator's.
    case inPlace(String)
  }

  /// The machine's name.
  public var name: MachineName
  /// Its id.
  public var uuid: MachineUUID
  /// Its ids on the host.
  public var range: UIDRange
  /// What its root is made of.
  public var root: Root
  /// How far the files of a copy or of a directory are on their way to the machine's ids.
  public enum Shift: String, Sendable {
    /// They carry the image's.
    case none
    /// Some carry one, some the other: it was begun in either direction.
    case begun
    /// They carry the machine's.
    case done
  }
  /// How far the files are on their way to the machine's ids; without meaning for layers.
  public var shift = Shift.none
  /// Whether it goes away when it stops.
  public var isEphemeral = false
  /// Whether the store wrote its spec, and so removes it with the machine.
  public var ownsSpec = false
  /// When it was made, in seconds since 1970.
  public var created: UInt64

  /// A machine that is not shifted, not ephemeral, and whose spec is somebody else's.
  public init(name: MachineName, uuid: MachineUUID, range: UIDRange, root: Root, created: UInt64) {
    self.name = name
    self.uuid = uuid
    self.range = range
    self.root = root
    self.created = created
  }

  /// The image that it was made from, if any.
  public var image: String? {
    switch root {
    case .layers(let image, _), .copy(let image): image
    case .inPlace: nil
    }
  }
}

extension MachineRecord {
  /// The record as a JSON object.
  public var json: JSON {
    var object: JSON = [
      "name": .string(name.description), "uuid": .string(uuid.description), "created": JSON(created),
      "uidBase": JSON(range.base), "uidCount": JSON(range.count), "shift": .string(shift.rawValue),
      "ephemeral": .bool(isEphemeral), "ownsSpec": .bool(ownsSpec),
    ]
    switch root {
    case .layers(let image, let folders):
      object["root"] = "layers"
      object["image"] = .string(image)
      object["layers"] = JSON(folders)
    case .copy(let image):
      object["root"] = "copy"
      object["image"] = .string(image)
    case .inPlace(let path):
      object["root"] = "in-place"
      object["directory"] = .string(path)
    }
    return object
  }

  /// Reads a record.
  ///
  /// - Returns: nil when something is missing or of the wrong kind.
  public init?(json: JSON) {
    guard let name = json["name"]?.stringValue.flatMap({ try? MachineName($0) }),
      let uuid = json["uuid"]?.stringValue.flatMap({ try? MachineUUID($0) }),
      let base = json["uidBase"]?.intValue.flatMap({ UInt32(exactly: $0) }),
      let count = json["uidCount"]?.intValue.flatMap({ UInt32(exactly: $0) }), count > 0,
      base > 0, UInt64(base) + UInt64(count) <= UInt64(UInt32.max),
      let created = json["created"]?.intValue.flatMap({ UInt64(exactly: $0) })
    else { return nil }
    let root: Root
    switch json["root"]?.stringValue {
    case "layers":
      guard let image = json["image"]?.stringValue,
        let folders = json["layers"]?.arrayValue?.compactMap(\.stringValue), !folders.isEmpty
      else { return nil }
      root = .layers(image: image, folders: folders)
    case "copy":
      guard let image = json["image"]?.stringValue else { return nil }
      root = .copy(image: image)
    case "in-place":
      guard let path = json["directory"]?.stringValue else { return nil }
      root = .inPlace(path)
    default: return nil
    }
    self.init(name: name, uuid: uuid, range: UIDRange(base: base, count: count), root: root, created: created)
    shift = json["shift"]?.stringValue.flatMap(Shift.init) ?? .none
    isEphemeral = json["ephemeral"]?.boolValue ?? false
    ownsSpec = json["ownsSpec"]?.boolValue ?? false
  }
}
