import CLinux
import Images
import Linux

/// Extended attributes of files that are open for reading or writing: not by `/proc`, which in a machine is its own.
enum OpenAttributes {
  private static let notSupported = -95
  private static let noData = -61
  private static let rangeTooSmall = -34
  /// An id in it is none of this user namespace's.
  private static let overflow = -75

  /// The attributes that say something of the file and not of its host. What else there is, is counted.
  static func read(
    _ descriptor: Int32, skipped: inout UInt64, path: @autoclosure () -> String
  ) throws -> [TreeMetadata.Attribute] {
    var list = [CChar](repeating: 0, count: 512)
    var length = clinux_open_listxattr(descriptor, &list, list.count)
    if length == rangeTooSmall {
      list = [CChar](repeating: 0, count: 65536)
      length = clinux_open_listxattr(descriptor, &list, list.count)
    }
    if length == 0 || length == notSupported { return [] }
    try Calls.check(length, "list the extended attributes of", path())
    var result: [TreeMetadata.Attribute] = []
    for bytes in list[..<min(length, list.count)].split(separator: 0) {
      let name = Array(bytes) + [0]
      let text = String(name: name)
      let isKnown = [AttributeIDs.capability, AttributeIDs.accessACL, AttributeIDs.defaultACL].contains(text)
      guard isKnown || text.hasPrefix("user.") else {
        if text.hasPrefix("trusted.") { skipped += 1 }
        continue
      }
      guard let value = try value(descriptor, name, path: path()) else {
        skipped += 1
        continue
      }
      result.append(TreeMetadata.Attribute(name: bytes.map { UInt8(bitPattern: $0) }, value: value))
    }
    return result
  }

  private static func value(
    _ descriptor: Int32, _ name: Name, path: @autoclosure () -> String
  ) throws(Failure) -> [UInt8]? {
    var value = [UInt8](repeating: 0, count: 256)
    var length = clinux_open_getxattr(descriptor, name, &value, value.count)
    if length == rangeTooSmall {
      value = [UInt8](repeating: 0, count: 65536)
      length = clinux_open_getxattr(descriptor, name, &value, value.count)
    }
    if length == noData || length == notSupported || length == overflow { return nil }
    try Calls.check(length, "read attribute \(String(name: name)) of", path())
    return Array(value[..<min(length, value.count)])
  }

  /// Sets an attribute.
  ///
  /// - Returns: false where the file system has none of its kind.
  static func set(
    _ descriptor: Int32, _ attribute: TreeMetadata.Attribute, path: @autoclosure () -> String
  ) throws(Failure) -> Bool {
    let name = attribute.name.map { CChar(bitPattern: $0) } + [0]
    let result = clinux_open_setxattr(descriptor, name, attribute.value, attribute.value.count)
    if Int(result) == notSupported { return false }
    try Calls.check(result, "set attribute \(String(name: name)) of", path())
    return true
  }
}
