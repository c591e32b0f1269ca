import Glibc
import Linux
import MachineSpec
import SystemPackage

/// Which directories may be a machine's root in place. Their files may be given to the machine's ids, and the machine
/// may do with them what it likes, so nothing that is the host's own or another machine's is taken.
extension MachineStore {
  /// Folders that are the host's with all that is in them.
  private static let hostTrees = ["/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/sbin", "/sys", "/usr"]
  /// Folders that are the host's, in which an operator may have a machine's.
  private static let hostFolders = [
    "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/tmp",
  ]
  /// The real path of a directory that may be used in place.
  ///
  /// - Throws: `Failure` that says whose it is.
  func usable(_ path: String) throws(Failure) -> String {
    guard let resolved = realpath(path, nil) else {
      throw Failure("use in place", path, errno: Errno(rawValue: errno))
    }
    defer { free(resolved) }
    let real = String(cString: resolved)
    func refuse(_ reason: String) -> Failure {
      Failure("use in place", path, reason, advice: "use a directory of its own for the machine", kind: .usage)
    }
    let folder = try Descriptor.open(real, [.directory, .noFollow])
    // Also where the root is bound to another place.
    let (status, root) = (try folder.status(), try Descriptor.open("/", [.path, .directory]).status())
    if real == "/" || (status.inode, status.device) == (root.inode, root.device) {
      throw refuse("it is the host's own root")
    }
    for tree in Self.hostTrees where Self.isOrHolds(tree, real) || Self.isOrHolds(real, tree) {
      throw refuse("it is part of the host's own \(tree)")
    }
    for folder in Self.hostFolders where Self.isOrHolds(real, folder) {
      throw refuse("the host's own \(folder) is not a machine's")
    }
    for own in [places.state, places.configuration, places.runtime] {
      guard let resolved = realpath(own, nil) else { continue }
      defer { free(resolved) }
      let own = String(cString: resolved)
      if Self.isOrHolds(real, own) || Self.isOrHolds(own, real) {
        throw refuse("images and machines are kept in \(own)")
      }
    }
    for name in try names() {
      guard let other = try? record(of: name), case .inPlace(let taken) = other.root else { continue }
      if taken == real { throw refuse("the machine '\(name)' has it already") }
      if Self.isOrHolds(real, taken) || Self.isOrHolds(taken, real) {
        throw refuse("the machine '\(name)' has \(taken), and one is in the other")
      }
    }
    return real
  }

  private static func isOrHolds(_ folder: String, _ path: String) -> Bool {
    path == folder || path.hasPrefix(folder + "/")
  }
}
