import CLinux
import Linux

/// Extended attributes by descriptor (which may be `O_PATH`).
package enum Attributes {
  // What the kernel allows at most, for the list (XATTR_LIST_MAX) and for a value (XATTR_SIZE_MAX).
  private static let largest = 65536

  private static let notSupported: Int = -95
  private static let noData: Int = -61

  /// The names of a file's attributes; none where the file system has none.
  package static func names(_ descriptor: Int32, path: @autoclosure () -> String) throws(Failure) -> [Name] {
    let probe = clinux_listxattr(descriptor, nil, 0)
    if probe == 0 || probe == notSupported { return [] }
    try Calls.check(probe, "list the extended attributes of", path())
    var buffer = [CChar](repeating: 0, count: largest)
    let length = try Calls.check(
      clinux_listxattr(descriptor, &buffer, buffer.count), "list the extended attributes of", path())
    return buffer[..<min(length, buffer.count)].split(separator: 0).map { Array($0) + [0] }
  }

  /// The value of an attribute; nil when the file has it not.
  package static func value(
    _ descriptor: Int32, _ name: UnsafePointer<CChar>, path: @autoclosure () -> String
  ) throws(Failure) -> [UInt8]? {
    var small = [UInt8](repeating: 0, count: 256)
    var length = clinux_getxattr(descriptor, name, &small, small.count)
    if length == -34 {
      small = [UInt8](repeating: 0, count: largest)
      length = clinux_getxattr(descriptor, name, &small, small.count)
    }
    if length == noData || length == notSupported { return nil }
    try Calls.check(length, "read attribute \(String(name: name)) of", path())
    return Array(small[..<min(length, small.count)])
  }

  /// Sets an attribute.
  package static func set(
    _ descriptor: Int32, _ name: UnsafePointer<CChar>, _ value: [UInt8], path: @autoclosure () -> String
  ) throws(Failure) {
    try Calls.check(
      clinux_setxattr(descriptor, name, value, value.count), "set attribute \(String(name: name)) of", path())
  }

  /// Removes an attribute that may not be there.
  package static func remove(
    _ descriptor: Int32, _ name: String, path: @autoclosure () -> String
  ) throws(Failure) {
    let result = clinux_removexattr(descriptor, name)
    if result == noData || result == notSupported { return }
    try Calls.check(result, "remove attribute \(name) of", path())
  }

  /// Labels that the host's own policy gives to files: they say nothing of the image, and are never carried over.
  package static func isHostLabel(_ name: String) -> Bool {
    name.hasPrefix("security.") && name != AttributeIDs.capability
  }
}
