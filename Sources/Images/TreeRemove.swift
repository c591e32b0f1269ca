import CLinux
import Linux
import SystemPackage

/// Removes trees whose contents are somebody else's, however deep, while they may be changing.
public enum TreeRemove {
  // Somebody who keeps making files must not keep us for ever.
  private static let passes = 100

  /// Removes a file or a whole tree.
  ///
  /// No symbolic link is followed and no mount is crossed: a mount in the tree ends the removal with an error that
  /// names it. A name that is not there is no error. The corresponding calls are `openat2` with `RESOLVE_NO_XDEV`, and
  /// `unlinkat`.
  ///
  /// - Parameters:
  ///   - name: one component, in `directory`.
  ///   - directory: the folder that holds it.
  ///   - path: what the tree is called in an error.
  /// - Throws: `Failure` for the first entry that cannot be removed.
  public static func remove(_ name: String, in directory: FileDescriptor, path: String) throws {
    let name = name.asName
    let parent = directory.rawValue
    let removed = clinux_unlinkat(parent, name, 0)
    if removed == 0 || removed == -2 { return }
    if removed != isDirectory && removed != notPermitted {
      throw explain(removed, parent, name, path)
    }
    let opened = openDirectory(parent, name)
    if opened == noEntry { return }
    if opened < 0 { throw explain(opened == notDirectory ? removed : opened, parent, name, path) }
    let top = OwnedDescriptor(opened)
    try empty(top.raw, path: path)
    let result = clinux_unlinkat(parent, name, 1)
    if result < 0 && result != noEntry { throw explain(result, parent, name, path) }
  }

  /// Removes everything in a directory, and leaves the directory.
  ///
  /// - Parameters:
  ///   - directory: the directory.
  ///   - path: what it is called in an error.
  /// - Throws: `Failure` for the first entry that cannot be removed.
  public static func removeContents(of directory: FileDescriptor, path: String) throws {
    let top = try Calls.open(directory.rawValue, ".", CLINUX_O_DIRECTORY, path: path)
    try empty(top.raw, path: path)
  }

  private static func empty(_ top: Int32, path: String) throws {
    let reader = DirectoryReader()
    var stack = DescriptorStack(top: top, path: path)
    // For each level, the directories in it that are still to be emptied, and how often it was read.
    var pending: [[Name]] = [try unlinkFiles(reader, stack)]
    while true {
      if let name = pending[pending.count - 1].popLast() {
        let opened = openDirectory(stack.current, name)
        if opened == noEntry || opened == notDirectory || opened == loop { continue }
        if opened < 0 { throw explain(opened, stack.current, name, stack.path(of: name)) }
        let child = OwnedDescriptor(opened)
        let identity = try Calls.stat(child.raw, Calls.itself, path: stack.path(of: name)).identity
        stack.push(child, identity: identity, name: name)
        pending.append(try unlinkFiles(reader, stack))
        continue
      }
      if stack.depth == 0 { return }
      pending.removeLast()
      let name = try stack.pop()
      try removeDirectory(name, stack, reader)
    }
  }

  /// Removes a directory that was emptied, emptying it again when something was put in meanwhile.
  private static func removeDirectory(
    _ name: Name, _ stack: borrowing DescriptorStack, _ reader: DirectoryReader
  ) throws {
    for _ in 0..<passes {
      let result = clinux_unlinkat(stack.current, name, 1)
      if result == 0 || result == noEntry { return }
      if result == notDirectory {
        clinux_unlinkat(stack.current, name, 0)
        continue
      }
      guard result == notEmpty else { throw explain(result, stack.current, name, stack.path(of: name)) }
      let opened = openDirectory(stack.current, name)
      if opened < 0 { continue }
      let again = OwnedDescriptor(opened)
      try empty(again.raw, path: stack.path(of: name))
    }
    throw Failure(
      "remove", stack.path(of: name), "new files keep appearing in it", advice: "end the processes that write there")
  }

  private static func unlinkFiles(_ reader: DirectoryReader, _ stack: borrowing DescriptorStack) throws -> [Name] {
    var directories: [Name] = []
    let current = stack.current
    var problem: (Int32, Name)?
    try reader.forEach(current, path: stack.path) { name, type in
      if type == DirectoryReader.directoryType {
        directories.append(DirectoryReader.copy(name))
        return
      }
      let result = clinux_unlinkat(current, name, 0)
      if result == isDirectory {
        directories.append(DirectoryReader.copy(name))
      } else if result < 0 && result != noEntry && problem == nil {
        problem = (result, DirectoryReader.copy(name))
      }
    }
    if let (number, name) = problem { throw explain(number, current, name, stack.path(of: name)) }
    return directories
  }

  private static func openDirectory(_ parent: Int32, _ name: Name) -> Int32 {
    clinux_openat2(
      parent, name, CLINUX_O_DIRECTORY | CLINUX_O_NOFOLLOW, 0,
      CLINUX_RESOLVE_BENEATH | CLINUX_RESOLVE_NO_SYMLINKS | CLINUX_RESOLVE_NO_XDEV)
  }

  private static func explain(_ result: Int32, _ parent: Int32, _ name: Name, _ path: String) -> Failure {
    if result == crossesMount || result == busy {
      return Failure("remove", path, "something is mounted on it", advice: "unmount it first")
    }
    if result == notPermitted {
      for (directory, name, what) in [(parent, name, path), (parent, Calls.itself, "the folder of \(path)")] {
        var stat = clinux_stat()
        guard clinux_statx(directory, name, &stat) == 0, stat.isImmutable || stat.isAppendOnly else { continue }
        let flag = stat.isImmutable ? "i" : "a"
        return Failure(
          "remove", path, "\(what) is \(stat.isImmutable ? "immutable" : "append-only")",
          advice: "clear the flag with chattr -\(flag) and try again")
      }
    }
    return Calls.failure(-result, "remove", path)
  }

  private static let noEntry = -Errno.noSuchFileOrDirectory.rawValue
  private static let notPermitted = -Errno.notPermitted.rawValue
  private static let isDirectory = -Errno.isDirectory.rawValue
  private static let notDirectory = -Errno.notDirectory.rawValue
  private static let notEmpty = -Errno.directoryNotEmpty.rawValue
  private static let loop = -Errno.tooManySymbolicLinkLevels.rawValue
  private static let crossesMount = -Errno.improperLink.rawValue
  private static let busy = -Errno.resourceBusy.rawValue
}
