import CLinux
import Images
import Linux

/// Where a copy goes to: a folder, held open, and what the copy is called in it.
package struct Destination: ~Copyable {
  /// How the operator's path is meant.
  package struct Options: Sendable {
    /// Whether what is there already is replaced, and folders are merged.
    package var replaces = false
    /// Whether folders that are missing are made.
    package var makesFolders = false
    /// Whether the path is the copy's own even where a folder is there.
    package var isExact = false
    /// Whether the path must be a folder, because more than one thing may come.
    package var isFolder = false

    package init() {}
  }

  /// The folder.
  let folder: OwnedDescriptor
  /// What the copy is called there; nil when it keeps its name.
  let name: Name?
  /// The folder's path, for errors.
  let path: String
  /// Folders that were made on the way, the first one first.
  private var made: [(parent: Descriptor, name: Name)] = []

  /// Finds the destination, and makes the folders that are missing when asked to.
  ///
  /// Links in the path are followed, at the end as well when they lead to a folder: it is the operator's path.
  package init(_ path: String, options: Options, on side: TopPath.Side) throws(Failure) {
    let parts = TopPath.split(path)
    if !options.isExact || parts == nil {
      let opened = TopPath.tryOpenFolder(path, on: side)
      if opened >= 0 {
        self.init(folder: OwnedDescriptor(opened), name: nil, path: path, made: [])
        return
      }
      if opened != Self.noEntry && opened != Self.notDirectory { try Calls.check(opened, "open the folder", path) }
      if opened == Self.notDirectory, options.isFolder || path.hasSuffix("/") {
        try Calls.check(opened, "open the folder", path)
      }
    }
    guard let (parent, name) = parts else {
      throw Failure("copy to", path, "it is not there, and has no name that it could get", kind: .usage)
    }
    let isFolder = options.isFolder || path.hasSuffix("/")
    let wanted = isFolder ? path : parent
    var made: [(parent: Descriptor, name: Name)] = []
    var opened = TopPath.tryOpenFolder(wanted, on: side)
    if opened == Self.noEntry, options.makesFolders {
      do {
        opened = try Self.makeFolders(wanted, on: side, &made)
      } catch {
        Self.remove(made)
        throw error
      }
    }
    if opened == Self.noEntry {
      throw Failure("copy to", wanted, "there is no such folder", advice: "pass --mkdir to have it made")
    }
    let folder = OwnedDescriptor(try Calls.check(opened, "open the folder", wanted))
    self.init(folder: folder, name: isFolder ? nil : name.asName, path: wanted, made: made)
  }

  private init(
    folder: consuming OwnedDescriptor, name: Name?, path: String, made: [(parent: Descriptor, name: Name)]
  ) {
    self.folder = folder
    self.name = name
    self.path = TopPath.trimmed(path)
    self.made = made
  }

  /// Removes the folders that were made, as far as nothing is in them.
  func takeBack() { Self.remove(made) }

  private static func remove(_ made: [(parent: Descriptor, name: Name)]) {
    for (parent, name) in made.reversed() { _ = clinux_unlinkat(parent.raw, name, 1) }
  }

  /// Makes what is missing at the end of a path.
  private static func makeFolders(
    _ path: String, on side: TopPath.Side, _ made: inout [(parent: Descriptor, name: Name)]
  ) throws(Failure) -> Int32 {
    var missing: [String] = []
    var present = path
    var at = noEntry
    while at == noEntry {
      guard let (folder, name) = TopPath.split(present) else {
        throw Failure("make the folder", path, "it has '..' behind a folder that is not there", kind: .usage)
      }
      missing.append(name)
      present = folder
      at = TopPath.tryOpenFolder(present, on: side)
    }
    var folder = Descriptor(adopting: try Calls.check(at, "open the folder", present))
    while let name = missing.popLast()?.asName {
      let result = clinux_mkdirat(folder.raw, name, 0o755)
      if result != exists {
        try Calls.check(result, "make the folder", path)
        made.append((folder, name))
      }
      let opened = clinux_openat(folder.raw, name, CLINUX_O_DIRECTORY, 0)
      let next = Descriptor(adopting: try Calls.check(opened, "open the folder", path))
      if result == 0 { try Calls.check(clinux_open_fchmod(next.raw, 0o755), "set the mode of", path) }
      folder = next
    }
    return try Calls.check(clinux_dup(folder.raw), "open the folder", path)
  }

  private static let noEntry: Int32 = -2
  private static let exists: Int32 = -17
  private static let notDirectory: Int32 = -20
}
