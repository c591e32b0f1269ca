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
    // Before it gets a name that others sweep away; the machine's lock itself goes with the files.
    let folder = try open(name)
    _ = try folder.lock()
    defer { withExtendedLifetime(folder) {} }
    try check(clinux_rename_noreplace(machines.raw, name.description, machines.raw, gone), "remove", name.description)
    try finishRemoving(gone, in: machines)
    if let record {
      try uidRanges().giveBack(record.range, of: name)
      if record.ownsSpec { removeSpec(of: name) }
    }
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

  /// Takes away what commands left that were killed while they made or removed a machine.
  public func sweep() throws(Failure) {
    let machines = try self.machines()
    for entry in try machines.names() where entry.hasPrefix(".") {
      guard let folder = try? machines.open(entry, [.directory, .noFollow], lookup: .beneath),
        (try? folder.lock()) == true
      else { continue }
      try finishRemoving(entry, in: machines)
    }
  }
}
