import Glibc
import Linux
import MachineSpec
import SystemPackage
import Varlink

/// The machines on disk: `machines/NAME/` with a record, a lock, and a root or the folders of an overlay.
///
/// A name that begins with a dot, which no machine's can, is a machine being made (`.NAME.new`) or removed
/// (`.NAME.gone`); its folder is locked as long as somebody works on it, and swept away once nobody does.
public struct MachineStore: Sendable {
  /// Where things are.
  public let places: Places

  /// A store in these places; nothing is made until something is.
  public init(_ places: Places) {
    self.places = places
  }

  /// The folder of a machine.
  public func folder(of name: MachineName) -> String { "\(places.state)/machines/\(name)" }

  /// The folder of an image's layer.
  public func layer(_ folder: String, of image: String) -> String { "\(places.state)/images/\(image)/\(folder)" }

  func machines() throws(Failure) -> Descriptor { try Descriptor.folder("\(places.state)/machines") }

  func uidRanges() throws(Failure) -> UIDRanges {
    let path = "\(places.state)/uid-ranges"
    return UIDRanges(
      folder: try Descriptor.folder(path), place: path, runs: IDRun.runs(of: try OwnIDs.current()))
  }

  /// The names of all machines, in order.
  public func names() throws(Failure) -> [MachineName] {
    let folder: Descriptor
    do {
      folder = try Descriptor.open("\(places.state)/machines", .directory)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return [] }
      throw error
    }
    return try folder.names().compactMap { try? MachineName($0) }.sorted()
  }

  /// Whether there is a machine of this name.
  public func exists(_ name: MachineName) -> Bool { access(folder(of: name), F_OK) == 0 }

  /// What was recorded when a machine was made.
  ///
  /// - Throws: `Failure` when there is no such machine, or its record cannot be read.
  public func record(of name: MachineName) throws(Failure) -> MachineRecord {
    try Self.record(in: try open(name), name: name, path: "\(folder(of: name))/machine.json")
  }

  static func record(in folder: Descriptor, name: MachineName, path: String) throws(Failure) -> MachineRecord {
    func damaged(_ what: String) -> Failure {
      Failure(
        "read the record of", name.description, "\(path) \(what)",
        advice: "put it back from a backup, or 'hengectl remove \(name)'")
    }
    let bytes: [UInt8]?
    do {
      bytes = try folder.readFile("machine.json")
    } catch {
      throw damaged("cannot be read: \(error.reason)")
    }
    guard let bytes, let json = try? JSON(parsing: bytes), let record = MachineRecord(json: json), record.name == name
    else {
      throw damaged("is damaged")
    }
    return record
  }

  /// Replaces a machine's record. Only for the holder of its lock.
  public func update(_ record: MachineRecord) throws(Failure) {
    try Self.write(record, in: try open(record.name))
  }

  static func write(_ record: MachineRecord, in folder: Descriptor) throws(Failure) {
    try folder.replaceFile("machine.json", with: record.json.pretty.utf8)
  }

  /// Opens a machine's folder.
  func open(_ name: MachineName) throws(Failure) -> Descriptor {
    do {
      return try Descriptor.open(folder(of: name), [.directory, .noFollow])
    } catch {
      guard error.errno == .noSuchFileOrDirectory else { throw error }
      throw Failure.noSuchMachine(name)
    }
  }

  /// Takes a machine's lock: whoever holds it may start, change or remove the machine.
  ///
  /// - Returns: the lock, or nil when the machine runs or somebody works on it.
  /// - Throws: `Failure` when there is no such machine.
  public func lock(_ name: MachineName) throws(Failure) -> MachineLock? {
    let folder = try open(name)
    let file: Descriptor
    do {
      file = try folder.open("lock", [.readWrite, .create, .noFollow], lookup: .beneath, mode: 0o600)
    } catch {
      throw Failure("lock the machine", name.description, "\(self.folder(of: name))/lock: \(error.reason)")
    }
    guard try file.lock() else { return nil }
    // It may have been removed, and even made again, while we stood before the door.
    guard try Descriptor.open(self.folder(of: name), .path).status().inode == folder.status().inode else {
      throw Failure.noSuchMachine(name)
    }
    return MachineLock(file: file)
  }

  /// As `lock`, for what needs a machine that is stopped.
  func lockStopped(_ name: MachineName, to purpose: String) throws(Failure) -> MachineLock {
    guard let lock = try lock(name) else { throw busy(name, purpose, "stop it first: hengectl poweroff \(name)") }
    return lock
  }

  /// Why a machine's lock is somebody else's: it runs, or a command is at it that runs nothing.
  public func busy(_ name: MachineName, _ purpose: String, _ advice: String) -> Failure {
    guard access(runtimeFolder(of: name), F_OK) == 0 else {
      return Failure(
        purpose, name.description, "another command is at it just now", advice: "wait for it and try again")
    }
    return Failure(purpose, name.description, "it is running already", advice: advice)
  }
}

/// A machine's lock, held as long as this lives, and by no process that this one starts.
public struct MachineLock: Sendable {
  let file: Descriptor
}

extension Failure {
  /// There is no machine of this name.
  public static func noSuchMachine(_ name: MachineName) -> Failure {
    Failure(
      "find the machine", name.description, "there is none of this name",
      advice: "'hengectl list' shows those that there are", kind: .notFound)
  }
}
