import Glibc
import Linux
import MachineSpec
import SystemPackage

/// Which directories may be a machine's root in place. Their files may be given to the machine's ids, and the machine
/// may do with them what it likes, so nothing that is the host's own or another machine's is taken.
extension MachineStore {
  /// Folders that a host does not live without; neither they nor what they are in may be a machine.
  private static let hostFolders = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var",
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
    for kernel in ["/proc", "/sys", "/dev"] where Self.isOrHolds(kernel, real) {
      throw refuse("it is a file system of the kernel's")
    }
    if let host = Self.hostFolders.first(where: { Self.isOrHolds(real, $0) }) {
      throw refuse(real == host ? "it is the host's own" : "the host's own \(host) is in it")
    }
    for own in [places.state, places.configuration, places.runtime] {
      guard let resolved = realpath(own, nil) else { continue }
      defer { free(resolved) }
      let own = String(cString: resolved)
      if Self.isOrHolds(real, own) || Self.isOrHolds(own, real) { throw refuse("images and machines are kept in \(own)") }
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
