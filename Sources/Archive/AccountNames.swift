import CLinux
import Images
import Linux

/// The names of users and groups in the imported tree's own account files, never the host's.
struct AccountNames {
  private static let largest = 4 << 20

  private var users: [[UInt8]: UInt32]
  private var groups: [[UInt8]: UInt32]

  /// Reads `etc/passwd` and `etc/group` beneath a root; what is not there has no names.
  init(root: Int32) {
    users = Self.read(root, "etc/passwd")
    groups = Self.read(root, "etc/group")
  }

  /// The id that a line of an ACL means.
  func id(_ line: TarEntry.ACLLine) -> UInt32? { line.tag == 0x02 ? users[line.name] : groups[line.name] }

  private static func read(_ root: Int32, _ path: String) -> [[UInt8]: UInt32] {
    var result: [[UInt8]: UInt32] = [:]
    let handle = Beneath.tryOpen(root, path.asName, CLINUX_O_PATH)
    if handle < 0 { return result }
    let file = OwnedDescriptor(handle)
    guard let stat = try? Calls.stat(file.raw, Calls.itself, path: path), stat.isRegular else { return result }
    let opened = clinux_reopen(file.raw, 0)
    if opened < 0 { return result }
    let data = OwnedDescriptor(opened)
    guard let bytes = try? Calls.readAll(data.raw, limit: largest, path: path) else { return result }
    for line in bytes.split(separator: 10) {
      let fields = line.split(separator: 58, maxSplits: 3, omittingEmptySubsequences: false)
      guard fields.count > 2, let id = UInt32(String(decoding: fields[2], as: UTF8.self)) else { continue }
      if result[Array(fields[0])] == nil { result[Array(fields[0])] = id }
    }
    return result
  }
}
