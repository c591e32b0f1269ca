import CLinux
import Linux
import MachineSpec
import SystemPackage

extension ImageStore {
  /// What an importer has done so far, or in all.
  public struct Progress: Sendable, Equatable {
    /// Entries that were made.
    public var entries: UInt64
    /// Bytes of contents that were written.
    public var bytes: UInt64

    /// A count.
    public init(entries: UInt64, bytes: UInt64) {
      self.entries = entries
      self.bytes = bytes
    }
  }

  /// Imports a directory as an image.
  ///
  /// - Parameters:
  ///   - directory: the root of the system.
  ///   - source: what the directory is called in the record and in errors.
  ///   - name: the image's name.
  ///   - devices: what to do with device nodes.
  ///   - foreign: what to do with ids outside 0…65535.
  ///   - progress: called after each entry and each piece of a large file; throwing ends the import.
  /// - Returns: the record, and what was left out.
  /// - Throws: `Failure`; nothing of the image is left then.
  public func importDirectory(
    _ directory: FileDescriptor, source: String, as name: ImageName, devices: TreeCopy.Devices = .skip,
    foreign: IDShift.Foreign = .fail, progress: @escaping (Progress) throws -> Void
  ) throws -> (record: ImageRecord, summary: TreeCopy.Summary) {
    var summary = TreeCopy.Summary()
    let record = try importImage(name, source: source) { layer in
      var copy = TreeCopy()
      copy.devices = devices
      copy.imageIDs = foreign
      copy.progress = { try progress(Progress(entries: $0.entries, bytes: $0.bytes)) }
      try refuseOwnTree(directory, layer, source)
      summary = try copy.copy(from: directory, to: layer, sourcePath: source)
      if summary.entries == 0 { throw Failure("import", source, "the directory is empty") }
      return Progress(entries: summary.entries, bytes: summary.bytes)
    }
    return (record, summary)
  }

  /// Makes an image whose base layer a body fills.
  ///
  /// The layer is made in `NAME.partial`, the file system synced, and only then the folder gets its name
  /// (`renameat2` with `RENAME_NOREPLACE`).
  ///
  /// - Parameters:
  ///   - name: the image's name.
  ///   - source: what it comes from, for the record.
  ///   - fill: puts the tree into the empty folder that it is given, and counts it.
  /// - Returns: the record.
  /// - Throws: `Failure`, or what `fill` throws; nothing of the image is left then.
  public func importImage(
    _ name: ImageName, source: String, fill: (FileDescriptor) throws -> Progress
  ) throws -> ImageRecord {
    removeLeftovers()
    let partialName = name.description + ImageName.partial
    let partialPath = "\(path)/\(partialName)"
    let partial = try claim(name, partialName, partialPath)
    defer { clinux_unlock(partial.raw) }
    do {
      let layerName = "layer-0"
      try Calls.check(clinux_mkdirat(partial.raw, layerName.asName, 0o755), "make", "\(partialPath)/\(layerName)")
      let layer = try Calls.open(partial.raw, layerName.asName, CLINUX_O_DIRECTORY, path: partialPath)
      // Whatever the umask left of it.
      try Calls.check(clinux_chmod_descriptor(layer.raw, 0o755), "set the mode of", partialPath)
      let count = try fill(FileDescriptor(rawValue: layer.raw))
      let os = RootInspection.osRelease(layer.raw)
      let record = ImageRecord(
        name: name.description, created: clinux_realtime_seconds(), source: source, layers: [layerName],
        entries: count.entries, bytes: count.bytes, prettyName: os["PRETTY_NAME"], osID: os["ID"],
        osVersion: os["VERSION_ID"], architecture: RootInspection.architecture(layer.raw))
      try write(record, partial.raw, partialPath)
      try Calls.check(clinux_syncfs(partial.raw), "sync", partialPath)
      let renamed = clinux_renameat(images.raw, partialName.asName, images.raw, name.description.asName, 0)
      if renamed == -17 { throw taken(name) }
      try Calls.check(renamed, "name the image", name.description)
      // It has its name: from here on it is an image, and an error must not take it away.
      _ = clinux_fsync(images.raw)
      return record
    } catch {
      try? TreeRemove.remove(partialName, in: FileDescriptor(rawValue: images.raw), path: partialPath)
      throw error
    }
  }

  private func taken(_ name: ImageName) -> Failure {
    Failure(
      "import", name.description, "there is an image of that name already",
      advice: "remove it with hengectl remove-image, or take another name")
  }

  /// Makes the partial folder, locked; one that a dead importer left is removed first.
  private func claim(_ name: ImageName, _ partialName: String, _ partialPath: String) throws -> OwnedDescriptor {
    let raw = try withLock { () throws -> Int32 in
      var stat = clinux_stat()
      if clinux_statx(images.raw, name.description.asName, &stat) == 0 { throw taken(name) }
      let old = clinux_openat(images.raw, partialName.asName, CLINUX_O_DIRECTORY, 0)
      if old >= 0 {
        let stale = OwnedDescriptor(old)
        if clinux_lock(stale.raw, 0) < 0 {
          throw Failure("import", name.description, "it is being imported already", advice: "wait for the other import")
        }
        // Its importer died after `removeLeftovers` had looked: the next one removes it.
        _ = try giveUp(partialName)
      }
      try Calls.check(clinux_mkdirat(images.raw, partialName.asName, 0o700), "make", partialPath)
      let partial = try Calls.open(images.raw, partialName.asName, CLINUX_O_DIRECTORY, path: partialPath)
      try Calls.check(clinux_lock(partial.raw, 0), "lock", partialPath)
      return partial.release()
    }
    return OwnedDescriptor(raw)
  }

  private func write(_ record: ImageRecord, _ folder: Int32, _ path: String) throws {
    let temporary = Self.recordName + ".new"
    // O_WRONLY | O_CREAT | O_TRUNC
    let file = OwnedDescriptor(
      try Calls.check(
        clinux_openat(folder, temporary.asName, 0o1 | 0o100 | 0o1000, 0o600), "make", "\(path)/\(temporary)"))
    try Array(record.lines.utf8).withUnsafeBytes { try Calls.writeAll(file.raw, $0, path: "\(path)/\(temporary)") }
    try Calls.check(clinux_fsync(file.raw), "sync", "\(path)/\(temporary)")
    try Calls.check(
      clinux_renameat(folder, temporary.asName, folder, Self.recordName.asName, 1), "rename", "\(path)/\(temporary)")
    try Calls.check(clinux_fsync(folder), "sync", path)
  }

  /// A folder that holds the store would be copied into itself for ever.
  private func refuseOwnTree(_ directory: FileDescriptor, _ layer: FileDescriptor, _ source: String) throws {
    let top = try Calls.stat(directory.rawValue, Calls.itself, path: source).identity
    var at = try Calls.open(layer.rawValue, ".", CLINUX_O_DIRECTORY, path: source)
    var last: FileIdentity?
    while true {
      let identity = try Calls.stat(at.raw, Calls.itself, path: source).identity
      if identity == top {
        throw Failure(
          "import", source, "the image store is inside of it", advice: "import a directory that does not hold it")
      }
      if identity == last { return }
      last = identity
      at = try Calls.open(at.raw, "..", CLINUX_O_DIRECTORY, path: source)
    }
  }
}
