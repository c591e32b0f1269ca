import CLinux
import Glibc
import Images
import Linux
import MachineSpec
import SystemPackage

/// Giving a stopped machine another name: its folder, its record, its spec with the drop-ins, its ids.
///
/// A link `.OLD.renaming` to the new name says that it is going on. The folder's new name is the moment from which on it
/// is carried to its end, by whoever comes next if need be; before that the link alone goes away.
extension MachineStore {
  private static let suffix = ".renaming"

  static func renaming(_ name: String) -> String { ".\(name)\(suffix)" }

  /// Whether a machine is on its way from this name to another one.
  func isBeingRenamed(_ name: String) -> Bool {
    var status = stat()
    return lstat("\(places.state)/machines/\(Self.renaming(name))", &status) == 0
  }

  /// Renames a machine.
  ///
  /// - Throws: `Failure` when it runs, or the new name or its spec is taken; nothing is changed then.
  public func rename(_ name: MachineName, to new: MachineName) throws(Failure) {
    guard name != new else { throw Failure("rename", name.description, "it has this name", kind: .usage) }
    let lock = try lockStopped(name, to: "rename")
    try recover(name, lock: lock)
    // A damaged record would make the new name's machine damaged.
    _ = try record(of: name)
    let machines = try self.machines()
    func taken() -> Failure {
      Failure("rename", name.description, "there is a machine '\(new)' already", advice: "choose another name")
    }
    if exists(new) || isBeingRenamed(new.description) { throw taken() }
    for path in specPaths(of: new) where access(path, F_OK) == 0 {
      throw Failure(
        "rename", name.description, "there is a spec for '\(new)' already at \(path)", advice: "move it away first")
    }
    let link = Self.renaming(name.description)
    guard symlinkat(new.description, machines.raw, link) == 0 else {
      throw Failure("rename", name.description, errno: Errno(rawValue: errno))
    }
    if clinux_rename_noreplace(machines.raw, name.description, machines.raw, new.description) < 0 {
      let number = errno
      _ = unlinkat(machines.raw, link, 0)
      throw number == EEXIST ? taken() : Failure("rename", name.description, errno: Errno(rawValue: number))
    }
    try finishRename(from: name, to: new, in: machines)
    withExtendedLifetime(lock) {}
  }

  /// Everything behind the folder's new name; each step bears that it was taken already.
  private func finishRename(from name: MachineName, to new: MachineName, in machines: Descriptor) throws(Failure) {
    try check(fsync(machines.raw), "sync the folder of", new.description)
    let folder = try open(new)
    let path = "\(self.folder(of: new))/machine.json"
    // It carries one of the two names.
    if var record = try? Self.record(in: folder, name: name, path: path) {
      record.name = new
      try Self.write(record, in: folder)
    }
    let record = try Self.record(in: folder, name: new, path: path)
    for (old, path) in zip(specPaths(of: name), specPaths(of: new)) {
      guard access(old, F_OK) == 0 else { continue }
      try check(clinux_rename_noreplace(AT_FDCWD, old, AT_FDCWD, path), "rename", old)
    }
    try uidRanges().hand(record.range, to: new)
    try? removeRuntimeFolder(of: name)
    tell(name, "renamed", ["to": .string(new.description)])
    try check(unlinkat(machines.raw, Self.renaming(name.description), 0), "rename", name.description)
    try check(fsync(machines.raw), "sync the folder of", new.description)
  }

  private func specPaths(of name: MachineName) -> [String] {
    let base = "\(places.configuration)/\(name).machine"
    return [base, "\(base).d"]
  }

  /// Carries on what commands left that were killed while they renamed a machine. What cannot be finished stays for the
  /// next time: it is no reason to refuse what was asked for.
  public func finishRenames() {
    guard let machines = try? Descriptor.open("\(places.state)/machines", .directory),
      let names = try? machines.names()
    else { return }
    for link in names where link.hasPrefix(".") && link.hasSuffix(Self.suffix) {
      let text = String(link.dropFirst().dropLast(Self.suffix.utf8.count))
      guard let name = try? MachineName(text), let target = machines.linkTarget(link),
        let new = try? MachineName(target)
      else { continue }
      // Whoever is at it holds the lock, under one name or the other.
      if exists(name) {
        guard let lock = (try? self.lock(name)) ?? nil, exists(name) else { continue }
        _ = unlinkat(machines.raw, link, 0)
        withExtendedLifetime(lock) {}
      } else if let lock = (try? self.lock(new)) ?? nil, machines.linkTarget(link) == target {
        try? finishRename(from: name, to: new, in: machines)
        withExtendedLifetime(lock) {}
      } else if !exists(new) {
        // Neither is there: it was removed since.
        _ = unlinkat(machines.raw, link, 0)
      }
    }
  }
}
