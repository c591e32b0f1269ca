import Glibc
import Linux

/// Who runs this, without being root.
public struct OrdinaryUser: Sendable, Equatable {
  /// The user's id.
  public var uid: UInt32
  /// The id of the user's own group.
  public var gid: UInt32
  /// The login name; nil for a user of whom nobody says it.
  public var name: String?

  /// A user that is known already.
  public init(uid: UInt32, gid: UInt32, name: String?) {
    self.uid = uid
    self.gid = gid
    self.name = name
  }

  /// The user of this process. The name is that in `/etc/passwd`, or for a user of a directory service what the login
  /// said: it only leads to the lines of `/etc/subuid`, and newuidmap looks for itself.
  public static func current() -> OrdinaryUser {
    of(uid: getuid(), gid: getgid())
  }

  /// The user with these ids.
  public static func of(uid: UInt32, gid: UInt32) -> OrdinaryUser {
    let lines = AccountFile.lines(of: "/etc/passwd")
    let known = lines.first { $0.count > 3 && UInt32($0[2]) == uid }.map { String($0[0]) }
    return OrdinaryUser(uid: uid, gid: gid, name: known ?? variable("LOGNAME") ?? variable("USER"))
  }

  /// What to call the user in a message or a command.
  public var label: String { name ?? "\(uid)" }

  private static func variable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }
}

/// Files of accounts: lines of fields with colons between them.
enum AccountFile {
  static func lines(of path: String) -> [[Substring]] {
    guard let bytes = try? Descriptor.open(path).readAll(limit: 16 << 20, subject: path) else { return [] }
    return lines(in: String(decoding: bytes, as: UTF8.self))
  }

  static func lines(in text: String) -> [[Substring]] {
    text.split(separator: "\n").map { $0.split(separator: ":", omittingEmptySubsequences: false) }
  }
}
