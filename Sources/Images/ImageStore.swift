import CLinux
import Linux
import MachineSpec
import SystemPackage

/// The images below a state folder: `images/NAME/` with `image.record` and the folders of its layers.
///
/// A folder gets its name only when everything in it is on the disk, and loses it before anything in it goes, so that
/// what has an image's name is a whole image, whenever anybody was killed. What the dead left (`NAME.partial`,
/// `NAME.N.removing`) is told from what the living work on by a lock on the folder, and removed by the next import or
/// removal.
public struct ImageStore: Sendable {
  static let recordName = "image.record"

  let images: FileDescriptorOwner
  let path: String

  /// Opens the store, and makes its folder when it is not there.
  ///
  /// - Parameters:
  ///   - state: the state folder.
  ///   - path: the state folder's path, for errors.
  /// - Throws: `Failure` when the folder cannot be made or opened.
  public init(state: FileDescriptor, path: String) throws(Failure) {
    self.path = path + "/images"
    let name = "images".asName
    let made = clinux_mkdirat(state.rawValue, name, 0o700)
    // A file system that is only readable says so even of a folder that is there.
    var stat = clinux_stat()
    if made < 0 && made != -17 && clinux_statx(state.rawValue, name, &stat) != 0 {
      throw Calls.failure(-made, "make the folder", self.path)
    }
    if made == 0 { try Calls.check(clinux_fsync(state.rawValue), "sync", path) }
    images = FileDescriptorOwner(
      try Calls.open(state.rawValue, name, CLINUX_O_DIRECTORY, path: self.path))
  }

  /// What a folder of the store turned out to be.
  public enum Listed: Sendable {
    /// A whole image.
    case image(ImageRecord)
    /// A folder with an image's name whose record cannot be read.
    case broken(name: String, Failure)
  }

  /// Every image, by name; a corrupt one does not hide the others.
  ///
  /// - Throws: `Failure` when the folder cannot be listed.
  public func list() throws -> [Listed] {
    var names: [String] = []
    let folder = try Calls.open(images.raw, ".", CLINUX_O_DIRECTORY, path: path)
    try DirectoryReader().forEach(folder.raw, path: path) { name, _ in names.append(String(name: name)) }
    return names.sorted().compactMap { text -> Listed? in
      guard let name = try? ImageName(text) else { return nil }
      do throws(Failure) {
        return .image(try status(name))
      } catch {
        return error.kind == .notFound ? nil : .broken(name: text, error)
      }
    }
  }

  /// The record of an image.
  ///
  /// - Throws: `Failure` of kind `notFound`, or for a record that is corrupt.
  public func status(_ name: ImageName) throws(Failure) -> ImageRecord {
    let folder = try open(name)
    let recordPath = "\(path)/\(name)/\(Self.recordName)"
    let file = try Calls.open(
      folder.raw, Self.recordName.asName, CLINUX_O_NONBLOCK, path: recordPath)
    guard try Calls.stat(file.raw, Calls.itself, path: recordPath).isRegular else {
      throw Failure("read the image record", recordPath, "it is no file")
    }
    let record = try ImageRecord(
      lines: try Calls.readAll(file.raw, limit: 1 << 20, path: recordPath), path: recordPath)
    guard record.name == name.description else {
      throw Failure(
        "read the image record", recordPath, "it is of another image, '\(record.name)'",
        advice: "remove the image and import it again")
    }
    return record
  }

  /// The folders of an image's layers, base first, as `O_PATH` descriptors that the caller closes.
  ///
  /// - Throws: `Failure` when the image or one of its layers is not there.
  public func openLayers(_ name: ImageName) throws(Failure) -> [FileDescriptor] {
    let record = try status(name)
    let folder = try open(name)
    var result: [FileDescriptor] = []
    for layer in record.layers {
      let opened = clinux_openat(folder.raw, layer.asName, CLINUX_O_PATH | CLINUX_O_DIRECTORY, 0)
      if opened < 0 {
        for descriptor in result { clinux_close(descriptor.rawValue) }
        throw Calls.failure(-opened, "open the layer", "\(path)/\(name)/\(layer)")
      }
      result.append(FileDescriptor(rawValue: opened))
    }
    return result
  }

  func open(_ name: ImageName) throws(Failure) -> OwnedDescriptor {
    let opened = clinux_openat(images.raw, name.description.asName, CLINUX_O_DIRECTORY, 0)
    if opened == -2 || opened == -20 || opened == -40 {
      throw Failure(
        "find the image", name.description, "there is no image of that name", advice: "hengectl list-images shows all",
        kind: .notFound)
    }
    return OwnedDescriptor(try Calls.check(opened, "open the image", name.description))
  }

  /// Holds the store's lock for the short steps that claim or give up a name.
  func withLock<Result>(_ body: () throws -> Result) throws -> Result {
    // O_RDONLY | O_CREAT
    let lock = OwnedDescriptor(
      try Calls.check(clinux_openat(images.raw, ".lock".asName, 0o100, 0o600), "lock", "\(path)/.lock"))
    var result = clinux_lock(lock.raw, 1)
    while result == -4 {
      if clinux_stop_signal() != 0 { throw Failure("lock", path, "interrupted") }
      result = clinux_lock(lock.raw, 1)
    }
    try Calls.check(result, "lock", "\(path)/.lock")
    defer { clinux_unlock(lock.raw) }
    return try body()
  }
}

/// A descriptor that lives as long as the last copy of what holds it; it never changes, so it may be shared.
final class FileDescriptorOwner: Sendable {
  let raw: Int32

  init(_ descriptor: consuming OwnedDescriptor) { raw = descriptor.release() }

  deinit { clinux_close(raw) }
}
