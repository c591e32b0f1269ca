import CLinux
import Glibc
import Linux
import StageProtocol

/// Places in the machine's tree: found beneath its root, made where they are missing.
extension Setup {
  /// Runs a closure with the ids of the machine's root, so that what is made belongs to it, on disk as well as
  /// through an idmapped mount, and no more is allowed than that root may do.
  @discardableResult
  func asMachineRoot<Result>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    // In the inner child these are the process's own ids already.
    guard geteuid() == 0, root.raw != AT_FDCWD, !isInside else { return try body() }
    clinux_set_filesystem_ids(rootID, rootID)
    defer { clinux_set_filesystem_ids(0, 0) }
    return try body()
  }

  /// Whether this is the inner child already: process 1.
  var isInside: Bool { getpid() == 1 }

  /// Splits a path into its folder, opened, and its last name.
  func parent(of path: String) throws(Failure) -> (folder: Descriptor, name: String) {
    let parts = path.split(separator: "/")
    guard let name = parts.last else { throw Failure("set up", path, "it has no name") }
    let folder = parts.dropLast().joined(separator: "/")
    return (try open(folder, [.path, .directory]), String(name))
  }

  /// Opens a set-up target; a symbolic link anywhere on the way is refused, whoever put it there.
  func open(_ path: String, _ flags: OpenFlags = .path) throws(Failure) -> Descriptor {
    do {
      return try root.open(path, flags.union(.noFollow), lookup: .beneath)
    } catch {
      throw explained(error, path: path)
    }
  }

  private func explained(_ failure: Failure, path: String) -> Failure {
    switch failure.errno {
    case .tooManySymbolicLinkLevels:
      Failure(
        "set up", path, "the machine's root has a symbolic link there",
        advice: "put a folder in its place")
    case .notDirectory:
      Failure("set up", path, "the machine's root has something else than a folder there")
    default: failure
    }
  }

  /// Makes a directory and those above it, where they are missing.
  func makeDirectory(_ path: String, mode: UInt32) throws(Failure) {
    var done = ""
    var folder = root
    for part in path.split(separator: "/").map(String.init) {
      done += "/" + part
      if let status = try folder.status(of: part) {
        guard status.kind == .directory else {
          throw explained(
            Failure("open", done, errno: status.kind == .symbolicLink ? .tooManySymbolicLinkLevels : .notDirectory),
            path: done)
        }
      } else {
        let isLast = done.utf8.count >= path.utf8.count
        let place = folder
        let step = done
        try asMachineRoot { () throws(Failure) in
          try check(mkdirat(place.raw, part, isLast ? mode : 0o755), "make the folder", step)
        }
      }
      folder = try folder.open(part, [.path, .directory, .noFollow], lookup: .beneath)
    }
  }

  func makeFile(_ path: String, mode: UInt32, contents: [UInt8]) throws(Failure) {
    let (folder, name) = try parent(of: path)
    try asMachineRoot { () throws(Failure) in
      if let status = try folder.status(of: name), status.kind != .directory {
        // A start must not need room on the disk for what is there already.
        if status.kind == .regular, status.mode == mode, status.size == contents.count,
          let there = try? folder.open(name, [.read, .noFollow, .nonBlocking], lookup: .beneath),
          (try? there.readAll(limit: contents.count, subject: path)) == contents
        {
          return
        }
        try check(unlinkat(folder.raw, name, 0), "replace", path)
      }
      let file = try folder.open(
        name, [.write, .create, .exclusive, .noFollow], lookup: .beneath, mode: mode)
      try file.writeAll(contents, subject: path)
    }
  }

  func makeSymbolicLink(_ path: String, target: String) throws(Failure) {
    let (folder, name) = try parent(of: path)
    try asMachineRoot { () throws(Failure) in
      if let status = try folder.status(of: name), status.kind != .directory {
        try check(unlinkat(folder.raw, name, 0), "replace", path)
      }
      try check(symlinkat(target, folder.raw, name), "link", path)
    }
  }

  func copyFile(_ source: String, to path: String, mode: UInt32) throws(Failure) {
    let contents = try Descriptor.open(source).readAll(subject: source)
    try makeFile(path, mode: mode, contents: contents)
  }

  func remove(_ path: String) throws(Failure) {
    let (folder, name) = try parent(of: path)
    guard try folder.status(of: name) != nil else { return }
    try asMachineRoot { () throws(Failure) in try check(unlinkat(folder.raw, name, 0), "remove", path) }
  }

  /// Makes a place to bind on: a folder for a folder, an empty file for everything else.
  func makeBindTarget(_ path: String, for kind: FileStatus.Kind) throws(Failure) -> Descriptor {
    if let there = try? root.open(path, .path, lookup: .inRoot) { return there }
    if kind == .directory {
      try makeDirectory(path, mode: 0o755)
    } else {
      let folder = path.split(separator: "/").dropLast().joined(separator: "/")
      try makeDirectory(folder, mode: 0o755)
      try makeFile(path, mode: 0o644, contents: [])
    }
    return try open(path)
  }
}
