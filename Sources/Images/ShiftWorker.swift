import CLinux
import Linux

/// One thread's part of a shift: walks subtrees, changes plain files at once and hands the others to `CarefulShift`.
final class ShiftWorker {
  // As many files as are opened at once below the careful one's lock.
  private static let batch = 64
  private static let listSize = 4096

  private let shift: IDShift
  private let pool: WalkPool
  private let careful: CarefulShift
  private let mount: UInt64
  private let reader = DirectoryReader()
  private let list = UnsafeMutablePointer<CChar>.allocate(capacity: listSize)
  private var canListByName = true
  private(set) var summary = OwnershipShift.Summary()

  init(shift: IDShift, pool: WalkPool, careful: CarefulShift, mount: UInt64) {
    self.shift = shift
    self.pool = pool
    self.careful = careful
    self.mount = mount
  }

  deinit { list.deallocate() }

  /// Shifts everything in a directory, but not the directory; its descriptor is closed.
  func walk(_ subtree: WalkPool.Subtree) throws {
    let top = OwnedDescriptor(subtree.descriptor)
    let topStat = try Calls.stat(top.raw, Calls.itself, path: subtree.path)
    var stack = DescriptorStack(top: top.raw, path: subtree.path)
    var pending = [try shiftFiles(top.raw, topStat, path: stack.path)]
    while let last = pending.indices.last {
      if pool.isStopped { return }
      // From as far up as there is something: the most work for one hand-over.
      if pool.wantsWork, let depth = pending.firstIndex(where: { !$0.isEmpty }),
        let parent = stack.descriptor(atDepth: depth), let name = pending[depth].popLast()
      {
        let path = stack.path(atDepth: depth) + "/" + String(name: name)
        let opened = try openDirectory(name, in: parent, path: path)
        if opened.raw >= 0 { pool.give(WalkPool.Subtree(descriptor: opened.release(), path: path)) }
        continue
      }
      guard let name = pending[last].popLast() else {
        pending.removeLast()
        if !pending.isEmpty { try stack.pop() }
        continue
      }
      let directory = try openDirectory(name, in: stack.current, path: stack.path(of: name))
      if directory.raw < 0 { continue }
      let stat = try Calls.stat(directory.raw, Calls.itself, path: stack.path(of: name))
      stack.push(directory, identity: stat.identity, name: name)
      pending.append(try shiftFiles(stack.current, stat, path: stack.path))
    }
  }

  /// Opens a directory and shifts it itself; what is none any more, or is a mount, has a negative descriptor.
  private func openDirectory(
    _ name: Name, in parent: Int32, path: @autoclosure () -> String
  ) throws -> OwnedDescriptor {
    let opened = clinux_openat2(
      parent, name, CLINUX_O_DIRECTORY | CLINUX_O_NOFOLLOW, 0,
      CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_XDEV)
    if opened == -2 || opened == -20 || opened == -40 || opened == -18 { return OwnedDescriptor(-1) }
    let directory = OwnedDescriptor(try Calls.check(opened, "open", path()))
    let stat = try Calls.stat(directory.raw, Calls.itself, path: path())
    summary.entries += 1
    if try careful.shiftDirectory(directory.raw, stat, path: path()) { summary.changed += 1 }
    return directory
  }

  private func shiftFiles(
    _ directory: Int32, _ stat: clinux_stat, path: @autoclosure () -> String
  ) throws -> [Name] {
    // Where nobody but root may put a name, a name stays the same file from one call to the next. An ACL that lets
    // somebody else write shows in the group's bits.
    let isPinned = (stat.owner == shift.from || stat.owner == shift.to) && stat.mode & 0o022 == 0 && canListByName
    var directories: [Name] = []
    var careful: [Name] = []
    try reader.forEach(directory, path: path()) { name, type in
      if type == DirectoryReader.directoryType {
        directories.append(DirectoryReader.copy(name))
        return
      }
      switch try shiftPlain(directory, name, isPinned: isPinned, path: path()) {
      case .done: return
      case .directory: directories.append(DirectoryReader.copy(name))
      case .careful:
        careful.append(DirectoryReader.copy(name))
        if careful.count == Self.batch { try shiftCarefully(&careful, directory, path: path()) }
      }
    }
    if !careful.isEmpty { try shiftCarefully(&careful, directory, path: path()) }
    return directories
  }

  private func shiftCarefully(_ names: inout [Name], _ directory: Int32, path: @autoclosure () -> String) throws {
    let counts = try careful.shiftFiles(names, in: directory, path: path())
    summary.changed += counts.changed
    summary.restored += counts.restored
    names.removeAll(keepingCapacity: true)
  }

  private enum Outcome { case done, directory, careful }

  private func shiftPlain(
    _ directory: Int32, _ name: UnsafePointer<CChar>, isPinned: Bool, path: @autoclosure () -> String
  ) throws -> Outcome {
    func filePath() -> String { path() + "/" + String(name: name) }
    if isPinned { return try shiftPlain(directory, name, directory, name, path: filePath()) }
    // One descriptor for looking and changing: whatever takes the name meanwhile, it is this file that is changed.
    let opened = clinux_openat(directory, name, CLINUX_O_PATH, 0)
    if opened == -2 { return .done }
    let file = OwnedDescriptor(try Calls.check(opened, "open", filePath()))
    return try shiftPlain(file.raw, Calls.itself, directory, name, path: filePath())
  }

  /// Shifts a file that is reached as `name` in `at`, an empty name being `at` itself.
  private func shiftPlain(
    _ at: Int32, _ name: UnsafePointer<CChar>, _ directory: Int32, _ listed: UnsafePointer<CChar>,
    path: @autoclosure () -> String
  ) throws -> Outcome {
    var stat = clinux_stat()
    let found = clinux_statx(at, name, &stat)
    if found == -2 { return .done }
    try Calls.check(found, "read the attributes of", path())
    if stat.isDirectory { return .directory }
    if stat.mount != mount { return .done }
    summary.entries += 1
    if shift.isTarget(stat.owner) && shift.isTarget(stat.group) && !careful.resumes { return .done }
    if !stat.isSymbolicLink {
      if stat.mode & 0o6000 != 0 || stat.links > 1 || careful.resumes { return .careful }
      if try hasIDs(at, name, directory, listed, path: path()) { return .careful }
    }
    guard let owner = shift(stat.owner) else { throw shift.foreignID(stat.owner, path: path()) }
    guard let group = shift(stat.group) else { throw shift.foreignID(stat.group, path: path()) }
    let result = clinux_fchownat(at, name, owner, group)
    if result < 0 { throw CarefulShift.explain(result, stat, path()) }
    summary.changed += 1
    return .done
  }

  /// Whether a file has an ACL or capabilities. By name where the kernel can, as that is one call: whoever swaps the
  /// name at that moment only harms a file of his own.
  private func hasIDs(
    _ at: Int32, _ name: UnsafePointer<CChar>, _ directory: Int32, _ listed: UnsafePointer<CChar>,
    path: @autoclosure () -> String
  ) throws -> Bool {
    var length = -38
    if canListByName { length = clinux_listxattrat(directory, listed, list, Self.listSize) }
    if length == -38 {
      canListByName = false
      // Without the newer call a pinned file has no descriptor: the careful way opens one.
      if name[0] != 0 { return true }
      length = clinux_listxattr(at, list, Self.listSize)
    }
    if length == 0 || length == -95 || length == -2 { return false }
    // ERANGE: a long list; the careful way reads it whole.
    if length == -34 { return true }
    try Calls.check(length, "list the extended attributes of", path())
    let names = UnsafeBufferPointer(start: list, count: min(length, Self.listSize))
    return names.split(separator: 0).contains { part in
      let text = part.lazy.map { UInt8(bitPattern: $0) }
      return text.elementsEqual(AttributeIDs.capability.utf8) || text.elementsEqual(AttributeIDs.accessACL.utf8)
    }
  }
}
