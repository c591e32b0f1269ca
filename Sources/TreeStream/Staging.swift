import CLinux
import Images
import Linux
import SystemPackage

/// The folder beside its destination that a copy grows in, and the step that puts it in place.
///
/// It has a name of its own and lets nobody else in, so what is not whole is never under the name that was asked for, and
/// nobody can exchange a file while it is written. A lock says that its maker lives: what a killed one left is removed by
/// whoever copies to the same folder next.
package final class Staging {
  private static let prefix = ".henge-copy-"
  private static let tries = 8
  /// Folders that are there already and are merged may be so deep.
  private static let mergeDepth = 1000

  private let parent: Descriptor
  private let parentPath: String
  private let ownName: Name
  private let folder: Descriptor
  private let finalName: Name?
  private let replaces: Bool
  /// What was put in place so far: a folder below the destination's, by its names, and a name in it.
  private var placed: [(folder: [Name], name: Name, wasExchanged: Bool)] = []

  /// Receives a whole stream into a destination: everything of it is there at the end, or nothing.
  ///
  /// - Parameters:
  ///   - destination: where to.
  ///   - receiver: reads the stream.
  ///   - options: whether what is there is replaced.
  /// - Returns: what was copied.
  package static func receive(
    into destination: borrowing Destination, _ receiver: TreeReceiver, options: Destination.Options
  ) throws -> TreeSummary {
    do {
      try sweep(destination.folder.raw, path: destination.path)
      let staging = try Staging(destination, replaces: options.replaces)
      do {
        let summary = try receiver.receive(into: staging.folder.raw, path: destination.path) { try staging.expect($0) }
        try staging.finish()
        return summary
      } catch {
        staging.takeBack()
        throw error
      }
    } catch {
      destination.takeBack()
      throw error
    }
  }

  private init(_ destination: borrowing Destination, replaces: Bool) throws {
    self.replaces = replaces
    parent = Descriptor(adopting: try Calls.check(clinux_dup(destination.folder.raw), "open", destination.path))
    parentPath = destination.path
    finalName = destination.name
    for _ in 0..<Self.tries {
      let name = (Self.prefix + String(UInt64.random(in: .min ... .max), radix: 16)).asName
      let made = clinux_mkdirat(parent.raw, name, 0o700)
      if made == Self.exists { continue }
      try Calls.check(made, "make a folder in", destination.path)
      let opened = clinux_openat(parent.raw, name, CLINUX_O_DIRECTORY, 0)
      if opened < 0 { clinux_unlinkat(parent.raw, name, 1) }
      let folder = Descriptor(adopting: try Calls.check(opened, "open a folder in", destination.path))
      // Between the two, somebody may have taken it for one that was left behind.
      var stat = clinux_stat()
      if clinux_lock(folder.raw, 0) < 0 || clinux_statx(parent.raw, name, &stat) < 0 { continue }
      do {
        // What it would hand down to the files in it.
        try Calls.check(clinux_fchownat(folder.raw, Calls.itself, 0, 0), "prepare a folder in", destination.path)
        _ = clinux_open_removexattr(folder.raw, AttributeIDs.defaultACL)
        try Calls.check(clinux_open_fchmod(folder.raw, 0o700), "prepare a folder in", destination.path)
      } catch {
        clinux_unlinkat(parent.raw, name, 1)
        throw error
      }
      ownName = name
      self.folder = folder
      return
    }
    throw Failure("make a folder in", destination.path, "somebody keeps taking it away")
  }

  /// Looks early whether a name is taken: nobody wants to hear of it after the last gigabyte.
  private func expect(_ name: [UInt8]) throws {
    if replaces { return }
    let name = finalName ?? name.asName
    var stat = clinux_stat()
    if clinux_statx(parent.raw, name, &stat) == 0 { throw taken([], name) }
  }

  // MARK: putting in place

  private func finish() throws {
    var names = try Self.names(folder.raw, path: parentPath)
    if let finalName, let only = names.first, only != finalName {
      guard names.count == 1 else { throw Failure("copy to", parentPath, "more than one thing came for one name") }
      try Calls.check(clinux_renameat(folder.raw, only, folder.raw, finalName, 0), "name", path([], finalName))
      names = [finalName]
    }
    try place(names, [], folder.raw, parent.raw)
    // From here on it is done; what it replaced goes.
    placed = []
    removeSelf()
  }

  private func place(_ names: [Name], _ at: [Name], _ from: Int32, _ to: Int32) throws {
    for name in names {
      let result = clinux_renameat(from, name, to, name, 0)
      if result == 0 {
        placed.append((at, name, false))
        continue
      }
      if result == Self.otherFileSystem {
        throw Failure("put in place", path(at, name), "something is mounted there", advice: "copy to the mount itself")
      }
      guard result == Self.exists else { throw Calls.failure(-result, "put in place", path(at, name)) }
      guard replaces else { throw taken(at, name) }
      let new = try Calls.stat(from, name, path: path(at, name))
      let old = try Calls.stat(to, name, path: path(at, name))
      switch (new.isDirectory, old.isDirectory) {
      case (false, false):
        try Calls.check(clinux_exchange(from, name, to, name), "replace", path(at, name))
        placed.append((at, name, true))
      case (true, true):
        guard at.count < Self.mergeDepth else { throw Failure("merge", path(at, name), "it is too deep") }
        let source = try Calls.open(from, name, CLINUX_O_DIRECTORY, path: path(at, name))
        let target = try Calls.open(to, name, CLINUX_O_DIRECTORY, path: path(at, name))
        try place(try Self.names(source.raw, path: path(at, name)), at + [name], source.raw, target.raw)
      case (true, false): throw Failure("replace", path(at, name), "it is no folder, and a folder came")
      case (false, true): throw Failure("replace", path(at, name), "it is a folder, and no folder came")
      }
    }
  }

  /// Undoes what `place` did, and removes all that came.
  private func takeBack() {
    for (at, name, wasExchanged) in placed.reversed() {
      let relative: Name = at.reduce(into: []) { $0 += $1.dropLast() + [47] } + [0]
      let from = Beneath.tryOpen(folder.raw, relative, CLINUX_O_PATH | CLINUX_O_DIRECTORY)
      let to = Beneath.tryOpen(parent.raw, relative, CLINUX_O_PATH | CLINUX_O_DIRECTORY)
      if from >= 0, to >= 0 {
        _ =
          wasExchanged
          ? clinux_exchange(to, name, from, name) : clinux_renameat(to, name, from, name, 0)
      }
      if from >= 0 { clinux_close(from) }
      if to >= 0 { clinux_close(to) }
    }
    removeSelf()
  }

  private func removeSelf() {
    _ = try? TreeRemove.removeContents(of: FileDescriptor(rawValue: folder.raw), path: parentPath)
    clinux_unlinkat(parent.raw, ownName, 1)
  }

  /// Removes what killed copies left in a folder.
  package static func sweep(_ folder: Int32, path: String) throws {
    let prefix = prefix.asName.dropLast()
    for name in try names(folder, path: path) where name.starts(with: prefix) {
      let opened = clinux_openat(folder, name, CLINUX_O_DIRECTORY, 0)
      if opened < 0 { continue }
      let left = Descriptor(adopting: opened)
      guard let stat = try? Calls.stat(left.raw, Calls.itself, path: path), stat.owner == 0,
        stat.permissions == 0o700, clinux_lock(left.raw, 0) == 0
      else { continue }
      _ = try? TreeRemove.removeContents(of: FileDescriptor(rawValue: left.raw), path: path)
      clinux_unlinkat(folder, name, 1)
    }
  }

  private static func names(_ folder: Int32, path: String) throws -> [Name] {
    // Opened anew: it is read from its start each time.
    let directory = try Calls.open(folder, ".", CLINUX_O_DIRECTORY, path: path)
    var result: [Name] = []
    try DirectoryReader().forEach(directory.raw, path: path) { name, _ in result.append(DirectoryReader.copy(name)) }
    return result
  }

  private func path(_ at: [Name], _ name: Name) -> String {
    ([parentPath == "/" ? "" : parentPath] + (at + [name]).map { String(name: $0) }).joined(separator: "/")
  }

  private func taken(_ at: [Name], _ name: Name) -> Failure {
    Failure("copy to", path(at, name), "it is there already", advice: "pass --force to have it replaced")
  }

  private static let exists: Int32 = -17
  private static let otherFileSystem: Int32 = -18
}

extension Destination {
  /// Removes what killed copies left where this path leads to.
  package static func sweep(_ path: String, isExact: Bool, on side: TopPath.Side) throws {
    var options = Options()
    options.isExact = isExact
    let destination = try Destination(path, options: options, on: side)
    try Staging.sweep(destination.folder.raw, path: path)
  }
}
