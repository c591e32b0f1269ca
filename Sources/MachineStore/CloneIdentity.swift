import CLinux
import Glibc
import Linux
import MachineSpec

/// Takes from a clone's files what makes its source the one that it is. They are the machine's files: every path is
/// opened beneath, a link on the way ends the clone.
struct CloneIdentity {
  /// The clone's own tree, or its upper above the layers.
  let tree: Descriptor
  /// The folders below it, the top one first, with the image's ids; none for a tree of its own.
  let layers: [Descriptor]
  /// What is added to an id of a layer to get the machine's.
  let base: UInt32
  /// The clone's source, for messages.
  let source: MachineName

  /// What makes new host keys when there are none: units by name, as distributions have them.
  private static let keyMakers = [
    "sshd-keygen.service", "sshd-keygen@.service", "sshd-keygen.target", "ssh-keygen.service", "ssh-host-keys.service",
    "regenerate_ssh_host_keys.service", "sshdgenkeys.service", "cloud-init.service", "cloud-init-main.service",
  ]

  /// Leaves an empty machine-id, for which systemd takes the machine's UUID at the next start, also where the image has
  /// one of its own.
  func forgetMachineID() throws(Failure) {
    let etc = try folder("etc")
    try refuseOther(kind(of: "etc/machine-id"), "etc/machine-id")
    let file = try etc.open("machine-id", [.write, .create, .noFollow, .nonBlocking], lookup: .beneath, mode: 0o444)
    try check(ftruncate(file.raw, 0), "empty", "etc/machine-id")
    try check(fchown(file.raw, base, base), "give away", "etc/machine-id")
    // D-Bus has one of its own only where it is no link to the other; without content it takes the other.
    if try kind(of: "var/lib/dbus/machine-id") == .regular, try kind(of: "var/lib/dbus") == .directory {
      let folder = try folder("var/lib/dbus")
      let copy = try folder.open(
        "machine-id", [.write, .create, .noFollow, .nonBlocking], lookup: .beneath, mode: 0o444)
      try check(ftruncate(copy.raw, 0), "empty", "var/lib/dbus/machine-id")
      try check(fchown(copy.raw, base, base), "give away", "var/lib/dbus/machine-id")
    }
  }

  /// Whether something in the machine makes new host keys at its next start.
  func checkKeyMaker() throws(Failure) {
    let folders = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"]
    for folder in folders {
      for unit in Self.keyMakers where try kind(of: "\(folder)/\(unit)") == .regular { return }
    }
    throw Failure(
      "clone", source.description, "nothing in it makes new ssh host keys when they are gone",
      advice: "clone it without --new-host-keys, and run 'ssh-keygen -A' in the clone after removing the old ones")
  }

  /// Removes the keys by which a host is known over ssh.
  ///
  /// - Returns: how many there were.
  func removeHostKeys() throws(Failure) -> Int {
    var keys = Set<String>()
    for place in [tree] + layers {
      guard let folder = try? place.open("etc/ssh", [.directory, .noFollow], lookup: .beneath) else { continue }
      for name in try folder.names() where Self.isHostKey(name) { keys.insert(name) }
    }
    var count = 0
    for key in keys.sorted() where try kind(of: "etc/ssh/\(key)") != nil {
      let folder = try folder("etc/ssh")
      if unlinkat(folder.raw, key, 0) < 0, errno != ENOENT {
        throw Failure("remove", "etc/ssh/\(key)", errno: .init(rawValue: errno))
      }
      // Where an image has it, a whiteout hides it.
      if layers.contains(where: { (try? $0.open("etc/ssh/\(key)", .path, lookup: .beneath)) != nil }) {
        try check(mknodat(folder.raw, key, S_IFCHR, 0), "hide", "etc/ssh/\(key)")
      }
      count += 1
    }
    return count
  }

  private static func isHostKey(_ name: String) -> Bool {
    name.hasPrefix("ssh_host_") && (name.hasSuffix("_key") || name.hasSuffix("_key.pub"))
  }

  /// What a path is in the machine as it is seen merged; nil for nothing.
  ///
  /// - Throws: `Failure` for a link on the way or at the end.
  private func kind(of path: String) throws(Failure) -> FileStatus.Kind? {
    for place in [tree] + layers {
      do throws(Failure) {
        let status = try place.open(path, [.path, .noFollow], lookup: .beneath).status()
        // A whiteout: whatever is below is not seen.
        if status.kind == .characterDevice, status.major == 0, status.minor == 0 { return nil }
        return status.kind
      } catch {
        switch error.errno {
        case .noSuchFileOrDirectory, .notDirectory: continue
        case .tooManySymbolicLinkLevels:
          // D-Bus's file is one of the few that are links, and lib one of the few folders that are.
          return .symbolicLink
        default: throw error
        }
      }
    }
    return nil
  }

  private func refuseOther(_ kind: FileStatus.Kind?, _ path: String) throws(Failure) {
    guard kind == nil || kind == .regular else {
      throw Failure(
        "clone", source.description, "its /\(path) is no plain file, or a link leads there",
        advice: "make it a file, or remove it, in the machine")
    }
  }

  /// A folder of the clone's own; over layers it is made there as the one below is.
  private func folder(_ path: String) throws(Failure) -> Descriptor {
    var here = tree
    var done = ""
    for part in path.split(separator: "/").map(String.init) {
      done += done.isEmpty ? part : "/\(part)"
      if try here.status(of: part) == nil {
        let found = layers.lazy.compactMap { try? $0.open(done, [.directory, .noFollow], lookup: .beneath) }.first
        guard let below = found else { throw Failure("clone", source.description, "it has no folder /\(done)") }
        let status = try below.status()
        try check(mkdirat(here.raw, part, 0o700), "make the folder", done)
        let made = try here.open(part, [.directory, .noFollow], lookup: .beneath)
        try check(
          fchown(made.raw, base + min(status.uid, 65535), base + min(status.gid, 65535)), "give away", done)
        try check(fchmod(made.raw, status.mode), "set the mode of", done)
      }
      do {
        here = try here.open(part, [.directory, .noFollow], lookup: .beneath)
      } catch {
        throw Failure("clone", source.description, "its /\(done) is no folder", advice: "make it one in the machine")
      }
    }
    return here
  }
}
