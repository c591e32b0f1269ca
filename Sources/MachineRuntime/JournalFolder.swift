import Glibc
import Linux

/// The host's folder that the journal of a machine goes to with `LinkJournal=`: called by the machine's id, which the
/// machine chooses, so that it may be called like somebody else's.
enum JournalFolder {
  private static let parent = "/var/log/journal"

  static func path(_ id: String) -> String { "\(parent)/\(id)" }

  /// Whether there is one for this machine.
  static func isThere(_ id: String, owner: UInt32) -> Bool {
    guard !isHosts(id), let folder = try? Descriptor.open(path(id), [.directory, .noFollow]) else { return false }
    return belongs(folder, to: owner)
  }

  /// Makes it, or takes the one that is there. It stays when the machine stops, as its journal does.
  ///
  /// - Throws: `Failure` when it is the host's own journal, or another machine's.
  static func make(_ path: String, owner: UInt32) throws(Failure) {
    let id = path.split(separator: "/").last.map(String.init) ?? ""
    guard !isHosts(id) else {
      throw Failure(
        "make the journal folder", path, "the machine has the host's own machine-id",
        advice: "empty the machine's /etc/machine-id, or set LinkJournal=no")
    }
    if mkdir(path, 0o755) < 0, errno != EEXIST {
      throw Failure("make the journal folder", path, errno: .init(rawValue: errno))
    }
    let folder = try Descriptor.open(path, [.directory, .noFollow])
    guard belongs(folder, to: owner) else {
      throw Failure(
        "use the journal folder", path, "it is not this machine's: two have the same machine-id",
        advice: "empty the machine's /etc/machine-id, or set LinkJournal=no")
    }
    try check(fchown(folder.raw, owner, owner), "give away", path)
    try check(fchmod(folder.raw, 0o2755), "set the mode of", path)
  }

  /// An empty one of the host's root was made for it by the operator, or just now.
  private static func belongs(_ folder: Descriptor, to owner: UInt32) -> Bool {
    guard let status = try? folder.status() else { return false }
    return status.uid == owner || status.uid == 0 && (try? folder.names().isEmpty) ?? false
  }

  private static func isHosts(_ id: String) -> Bool {
    let own = try? Descriptor.open("/etc/machine-id", [.read, .nonBlocking]).readHead(32, subject: "/etc/machine-id")
    return own.map { $0.elementsEqual(id.utf8) } ?? false
  }
}
