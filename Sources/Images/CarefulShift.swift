import CLinux
import Linux
import Synchronization

/// Changes the owner of a file that has more to lose: set-id bits, capabilities, ACLs, other names.
///
/// One at a time, under a lock: two threads that meet at two names of one file would else put back what the other one's
/// change of owner then takes.
///
/// `journal` is used with `lock` held only, once the threads run; `shift` and `resumes` do not change.
final class CarefulShift: @unchecked Sendable {
  private let shift: IDShift
  private let journal: ShiftJournal
  private let lock = Mutex(())
  /// Whether an earlier run was cut off that had recorded something.
  let resumes: Bool

  init(shift: IDShift, journal: ShiftJournal) {
    self.shift = shift
    self.journal = journal
    resumes = !journal.earlier.isEmpty
  }

  private struct Work {
    var descriptor: Int32
    var stat: clinux_stat
    var name: Name
    var mode: UInt32?
    var capability: [UInt8]
  }

  /// Shifts some of a directory's files.
  ///
  /// - Parameters:
  ///   - names: the files.
  ///   - directory: the folder that holds them.
  ///   - path: names the folder in an error.
  /// - Returns: how many owners were changed, and of how many what had been lost was put back.
  func shiftFiles(
    _ names: [Name], in directory: Int32, path: @autoclosure () -> String
  ) throws -> (changed: UInt64, restored: UInt64) {
    try lock.withLock { _ in
      var works: [Work] = []
      defer { for work in works { clinux_close(work.descriptor) } }
      var restored: UInt64 = 0
      for name in names {
        let opened = clinux_openat(directory, name, CLINUX_O_PATH, 0)
        if opened == -2 { continue }
        let file = OwnedDescriptor(try Calls.check(opened, "open", path() + "/" + String(name: name)))
        func filePath() -> String { path() + "/" + String(name: name) }
        let stat = try Calls.stat(file.raw, Calls.itself, path: filePath())
        if stat.isDirectory { continue }
        let earlier = journal.earlier[stat.inode].flatMap { $0.describes(stat) ? $0 : nil }
        if shift.isTarget(stat.owner) && shift.isTarget(stat.group) {
          // Done, but for what a kill kept from being put back.
          if let earlier, try restore(file.raw, earlier.mode, earlier.capability, path: filePath()) { restored += 1 }
          continue
        }
        works.append(try prepare(file, stat, name, earlier, path: filePath()))
      }
      try journal.flush()
      for work in works {
        func filePath() -> String { path() + "/" + String(name: work.name) }
        // ACLs before the owner: an owner in the target range says that the file is done.
        try shiftACL(AttributeIDs.accessACL, work.descriptor, path: filePath())
        try changeOwner(work.descriptor, work.stat, path: filePath())
        if let mode = work.mode { _ = try restore(work.descriptor, mode, work.capability, path: filePath()) }
      }
      return (UInt64(works.count), restored)
    }
  }

  /// Shifts a directory itself, whose change of owner loses nothing.
  ///
  /// - Returns: whether the owner was changed.
  func shiftDirectory(_ directory: Int32, _ stat: clinux_stat, path: @autoclosure () -> String) throws -> Bool {
    if shift.isTarget(stat.owner) && shift.isTarget(stat.group) { return false }
    if clinux_listxattr(directory, nil, 0) > 0 {
      try shiftACL(AttributeIDs.defaultACL, directory, path: path())
      try shiftACL(AttributeIDs.accessACL, directory, path: path())
    }
    try changeOwner(directory, stat, path: path())
    return true
  }

  private func prepare(
    _ file: consuming OwnedDescriptor, _ stat: clinux_stat, _ name: Name, _ earlier: ShiftJournal.Record?,
    path: @autoclosure () -> String
  ) throws -> Work {
    var work = Work(descriptor: -1, stat: stat, name: name, mode: nil, capability: [])
    if let earlier {
      work.mode = earlier.mode
      work.capability = earlier.capability
    } else {
      if stat.isRegular { work.capability = try capability(file.raw, path: path()) }
      if !stat.isSymbolicLink && (stat.mode & 0o6000 != 0 || !work.capability.isEmpty) {
        work.mode = stat.mode
        journal.append(
          ShiftJournal.Record(
            inode: stat.inode, modifiedSeconds: stat.modified_seconds, modifiedNanoseconds: stat.modified_nanoseconds,
            size: stat.size, mode: stat.mode, capability: work.capability))
      }
    }
    work.descriptor = file.release()
    return work
  }

  private func capability(_ file: Int32, path: @autoclosure () -> String) throws -> [UInt8] {
    try Attributes.value(file, AttributeIDs.capability.asName, path: path()) ?? []
  }

  private func changeOwner(_ file: Int32, _ stat: clinux_stat, path: @autoclosure () -> String) throws {
    guard let owner = shift(stat.owner) else { throw shift.foreignID(stat.owner, path: path()) }
    guard let group = shift(stat.group) else { throw shift.foreignID(stat.group, path: path()) }
    let result = clinux_fchownat(file, Calls.itself, owner, group)
    if result < 0 { throw Self.explain(result, stat, path()) }
  }

  static func explain(_ result: Int32, _ stat: clinux_stat, _ path: String) -> Failure {
    if result == -1 && (stat.isImmutable || stat.isAppendOnly) {
      return Failure(
        "shift the owner of", path, "it is \(stat.isImmutable ? "immutable" : "append-only")",
        advice: "clear the flag with chattr -\(stat.isImmutable ? "i" : "a") and try again")
    }
    return Calls.failure(-result, "shift the owner of", path)
  }

  /// Puts mode and capability back where they differ.
  private func restore(
    _ file: Int32, _ mode: UInt32, _ capability: [UInt8], path: @autoclosure () -> String
  ) throws -> Bool {
    var isChanged = false
    if try Calls.stat(file, Calls.itself, path: path()).permissions != mode & 0o7777 {
      try Calls.check(clinux_chmod_descriptor(file, mode & 0o7777), "restore the mode of", path())
      isChanged = true
    }
    if capability.isEmpty { return isChanged }
    let shifted = try TreeCopy.rewrite(AttributeIDs.capability, capability, shift, path: path())
    if try self.capability(file, path: path()) != shifted {
      try Attributes.set(file, AttributeIDs.capability.asName, shifted, path: path())
      isChanged = true
    }
    return isChanged
  }

  private func shiftACL(_ attribute: String, _ file: Int32, path: @autoclosure () -> String) throws {
    guard let value = try Attributes.value(file, attribute.asName, path: path()) else { return }
    let shifted = try TreeCopy.rewrite(attribute, value, shift, path: path())
    if shifted != value { try Attributes.set(file, attribute.asName, shifted, path: path()) }
  }
}
