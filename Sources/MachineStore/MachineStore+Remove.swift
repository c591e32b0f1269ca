import CLinux
import Glibc
import Images
import Linux
import MachineSpec
import SystemPackage

extension MachineStore {
  /// Removes a machine: its files, its ids, and the spec if the store wrote it. A directory used in place stays, and
  /// must have been given back to the image's ids before (`record.shift`).
  ///
  /// - Throws: `Failure` when it runs or does not exist.
  public func remove(_ name: MachineName) throws(Failure) {
    let lock = try lockStopped(name, to: "remove")
    try recover(name, lock: lock)
    try discard(name, lock: lock)
  }

  /// As `remove`, for the holder of the lock.
  public func discard(_ name: MachineName, lock: MachineLock) throws(Failure) {
    // A damaged record does not keep a machine from being removed.
    let record = try? record(of: name)
    let machines = try self.machines()
    let gone = ".\(name).gone"
    try check(clinux_rename_noreplace(machines.raw, name.description, machines.raw, gone), "remove", name.description)
    // The lock's file goes as one of the first; from here on the folder itself tells others to keep away.
    let folder = try machines.open(gone, [.directory, .noFollow], lookup: .beneath)
    _ = try folder.lock(wait: true)
    try finishRemoving(gone, in: machines)
    withExtendedLifetime(folder) {}
    if let record {
      try uidRanges().giveBack(record.range, of: name)
      if record.ownsSpec { removeSpec(of: name) }
    }
    removeLimits(of: name)
    tell(name, "removed")
    events.prune { access("\(places.state)/machines/\($0)", F_OK) == 0 }
  }

  private func finishRemoving(_ folder: String, in machines: Descriptor) throws(Failure) {
    do {
      try TreeRemove.remove(folder, in: FileDescriptor(rawValue: machines.raw), path: folder)
    } catch let error as Failure {
      throw error
    } catch {
      throw Failure("remove", folder, "\(error)")
    }
  }

  /// Takes away what commands left that were killed while they made or removed a machine. What cannot be taken away
  /// stays for the next time: it is no reason to refuse what was asked for.
  public func sweep() throws(Failure) {
    let machines = try self.machines()
    for entry in try machines.names() where entry.hasPrefix(".") {
      guard let folder = try? machines.open(entry, [.directory, .noFollow], lookup: .beneath),
        (try? folder.lock()) == true, !isLocked(folder)
      else { continue }
      try? finishRemoving(entry, in: machines)
      withExtendedLifetime(folder) {}
    }
  }

  /// Whether somebody holds the lock in a machine's folder.
  private func isLocked(_ folder: Descriptor) -> Bool {
    guard let lock = try? folder.open("lock", [.readWrite, .noFollow], lookup: .beneath) else { return false }
    return (try? lock.lock()) != true
  }
}
