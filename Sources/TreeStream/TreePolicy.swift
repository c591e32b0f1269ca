import Images
import Linux

/// What may go from one side to the other, and a count of what did not.
package struct TreePolicy: Sendable {
  /// Whether ids above 65535, which the other side cannot have, become nobody's (65534) and are no error.
  package var squashesIDs = false
  /// Whether sockets and devices are left out and are no error.
  package var skipsSpecial = false
  /// Whether set-id bits and file capabilities stay: into a machine always, out of one only when asked for.
  package var keepsPrivileges = true

  package init() {}

  private(set) var squashed: UInt64 = 0
  private var strippedSetID: UInt64 = 0
  private var strippedCapabilities: UInt64 = 0
  package var skippedAttributes: UInt64 = 0
  private var skippedSpecial: UInt64 = 0
  var skippedMounts: UInt64 = 0

  /// What the operator should know, a line each.
  package var notes: [String] {
    let list: [(count: UInt64, one: String, many: String)] = [
      (strippedSetID, "took the set-id bits from 1 file", "took the set-id bits from # files"),
      (strippedCapabilities, "took the capabilities from 1 file", "took the capabilities from # files"),
      (squashed, "gave 1 id to nobody", "gave # ids to nobody"),
      (skippedAttributes, "left out 1 extended attribute", "left out # extended attributes"),
      (skippedSpecial, "left out 1 socket or device", "left out # sockets or devices"),
      (skippedMounts, "left out 1 mount in the tree", "left out # mounts in the tree"),
    ]
    return list.filter { $0.count > 0 }.map { count, one, many in
      count == 1 ? one : many.split(separator: "#").joined(separator: "\(count)")
    }
  }

  /// The metadata as it may be on the other side.
  ///
  /// - Parameters:
  ///   - isRegular: whether a program can be made of it: only there a set-id bit is a privilege.
  ///   - path: names the file in an error.
  package mutating func admit(
    _ metadata: TreeMetadata, isRegular: Bool, path: @autoclosure () -> String
  ) throws -> TreeMetadata {
    var result = metadata
    result.owner = try id(metadata.owner, path())
    result.group = try id(metadata.group, path())
    if !keepsPrivileges, isRegular, metadata.permissions & 0o6000 != 0 {
      result.permissions &= ~0o6000
      strippedSetID += 1
    }
    if metadata.attributes.isEmpty { return result }
    result.attributes = []
    for attribute in metadata.attributes {
      if let admitted = try admit(attribute, path()) { result.attributes.append(admitted) }
    }
    return result
  }

  private mutating func admit(
    _ attribute: TreeMetadata.Attribute, _ path: @autoclosure () -> String
  ) throws -> TreeMetadata.Attribute? {
    let name = String(decoding: attribute.name, as: UTF8.self)
    switch name {
    case AttributeIDs.capability where !keepsPrivileges:
      strippedCapabilities += 1
      return nil
    case AttributeIDs.capability, AttributeIDs.accessACL, AttributeIDs.defaultACL: break
    // What an overlay notes on its files would steer the next one that they get into.
    case _ where name.hasPrefix("user.") && !name.hasPrefix("user.overlay."): return attribute
    default:
      skippedAttributes += 1
      return nil
    }
    var result = attribute
    do {
      var count: UInt64 = 0
      result.value = try AttributeIDs.rewrite(name, attribute.value) { id in
        if id <= 65535 { return id }
        if squashesIDs { count += 1 }
        return squashesIDs ? 65534 : nil
      }
      squashed += count
    } catch .foreign(let id) {
      throw Self.outside(id, path())
    } catch {
      throw Failure("copy", path(), "its attribute \(name) is malformed")
    }
    return result
  }

  private mutating func id(_ id: UInt32, _ path: @autoclosure () -> String) throws(Failure) -> UInt32 {
    if id <= 65535 { return id }
    guard squashesIDs else { throw Self.outside(id, path()) }
    squashed += 1
    return 65534
  }

  private static func outside(_ id: UInt32, _ path: String) -> Failure {
    Failure(
      "copy", path, "its owner, group or an id in its attributes is \(id), which a machine does not have",
      advice: "give it another owner, or pass --squash-ids")
  }

  /// Takes note of a socket or a device: an error, unless they are left out.
  package mutating func special(_ kind: UInt32, _ path: @autoclosure () -> String) throws(Failure) {
    if skipsSpecial {
      skippedSpecial += 1
      return
    }
    throw Failure(
      "copy", path(), "it is a \(kind == FileKind.socket ? "socket" : "device")",
      advice: "pass --skip-special to leave such out")
  }
}

/// What was copied.
package struct TreeSummary: Sendable, Equatable {
  /// Files, folders and links.
  package var entries: UInt64 = 0
  /// Contents, holes not counted.
  package var bytes: UInt64 = 0

  package init() {}
}
