import CLinux
import Glibc
import Images
import Linux
import MachineSpec
import SystemPackage

/// What a machine is to be made from.
public enum MachineSource: Sendable {
  /// An image of the store.
  case image(MachineSpec.ImageName)
  /// A directory, used as it is.
  case inPlace(String)
}

extension MachineStore {
  /// Makes a machine. From an image that costs a few files, however large the image is.
  ///
  /// - Parameters:
  ///   - name: the new machine's name.
  ///   - source: what it is made from.
  ///   - spec: the spec that it will have, which decides about the ownership of its files.
  ///   - specText: the text to keep as `NAME.machine`; nil leaves the one that is there.
  ///   - isEphemeral: whether it goes away when it stops.
  /// - Returns: its record.
  /// - Throws: `Failure`; nothing is left then.
  public func create(
    _ name: MachineName, from source: MachineSource, spec: Spec, specText: String?, isEphemeral: Bool = false
  ) throws(Failure) -> MachineRecord {
    var avoided: [UIDRange] = []
    // A tree is shifted in place, from the ids of images to the machine's, and no id may be of both.
    if case .inPlace = source {
      avoided = [UIDRange(base: 0, count: spec.machine.ids?.count ?? UIDRange.standardCount)]
    }
    return try make(name, ids: spec.machine.ids?.count, avoiding: avoided) { (draft, range) throws(Failure) in
      var record = MachineRecord(
        name: name, uuid: try uuid(spec), range: range, root: .inPlace(""),
        created: clinux_unix_seconds())
      record.isEphemeral = isEphemeral
      switch source {
      case .image(let image):
        record.root = try fill(draft, from: image, range: range, ownership: spec.files.privateUsersOwnership)
      case .inPlace(let path): record.root = .inPlace(try usable(path))
      }
      if case .copy = record.root { record.shift = .done }
      if let specText { record.ownsSpec = try writeSpec(specText, of: name) }
      return record
    } told: { record in
      tell(name, "created", record.image.map { ["image": .string($0)] } ?? [:])
    }
  }

  private func uuid(_ spec: Spec) throws(Failure) -> MachineUUID {
    if let uuid = spec.machine.uuid { return uuid }
    return try .random()
  }

  /// Makes a machine's folder under a name that is not a machine's, lets it be filled, and gives it its name last: a
  /// machine is there whole or not at all.
  func make(
    _ name: MachineName, ids: UInt32? = nil, avoiding avoided: [UIDRange] = [],
    fill: (Descriptor, UIDRange) throws(Failure) -> MachineRecord, told: (MachineRecord) -> Void
  ) throws(Failure) -> MachineRecord {
    try sweep()
    if exists(name) {
      throw Failure(
        "create", name.description, "there is a machine of this name already",
        advice: "choose another name, or 'hengectl remove \(name)'")
    }
    if isBeingRenamed(name.description) {
      throw Failure(
        "create", name.description, "a machine of this name is getting another one just now", advice: "try again")
    }
    let machines = try self.machines()
    let draftName = ".\(name).new"
    let draft = try makeDraft(draftName, in: machines, for: name)
    let undo = UndoStack()
    undo.push { try? TreeRemove.remove(draftName, in: FileDescriptor(rawValue: machines.raw), path: draftName) }
    defer { undo.run() }
    let lock = try draft.open("lock", [.readWrite, .create], lookup: .beneath, mode: 0o600)
    guard try lock.lock() else { throw Failure("create", name.description, "another command is at it just now") }

    let ranges = try uidRanges()
    let isMachine: (String) -> Bool = { owner in
      owner == name.description || access("\(self.places.state)/machines/\(owner)", F_OK) == 0
        || access("\(self.places.state)/machines/.\(owner).new", F_OK) == 0
        || access("\(self.places.state)/machines/.\(owner).gone", F_OK) == 0 || self.isBeingRenamed(owner)
    }
    let range = try ranges.take(
      for: name, count: ids ?? UIDRange.standardCount, isMachine: isMachine,
      foreign: ForeignIDs.ranges(in: try OwnIDs.current()) + avoided)
    undo.push { ranges.giveBack(range, of: name) }

    let record: MachineRecord
    do throws(Failure) {
      record = try fill(draft, range)
    } catch {
      throw error
    }
    if record.ownsSpec { undo.push { self.removeSpec(of: name) } }
    try Self.write(record, in: draft)
    try check(
      clinux_rename_noreplace(machines.raw, draftName, machines.raw, name.description), "create", name.description)
    undo.disarm()
    // While the machine's lock is held: before anybody else can tell of it.
    told(record)
    try check(fsync(machines.raw), "sync the folder of", name.description)
    return record
  }

  /// Makes the folder of a machine to be, held against whoever sweeps leftovers away.
  private func makeDraft(
    _ draftName: String, in machines: Descriptor, for name: MachineName
  ) throws(Failure) -> Descriptor {
    // Between the making and the lock a sweep may take it for a leftover; then it is made again.
    for _ in 0..<100 {
      if mkdirat(machines.raw, draftName, 0o700) < 0 {
        let number = errno
        if number == EEXIST {
          throw Failure("create", name.description, "another command is creating it just now")
        }
        throw Failure("create", name.description, errno: Errno(rawValue: number))
      }
      guard let draft = try? machines.open(draftName, [.directory, .noFollow], lookup: .beneath) else { continue }
      _ = try draft.lock(wait: true)
      if try machines.status(of: draftName)?.inode == (try draft.status().inode) { return draft }
    }
    throw Failure("create", name.description, "other commands keep sweeping it away", advice: "try again")
  }

  private func fill(
    _ draft: Descriptor, from image: MachineSpec.ImageName, range: UIDRange, ownership: FileOwnership
  ) throws(Failure) -> MachineRecord.Root {
    let layers = try layers(of: image)
    guard let base = layers.first else { throw Failure("use the image", image.description, "it has no layer") }
    let bottom = try Descriptor.open(layer(base, of: image.description), [.directory, .noFollow])
    let maps =
      switch ownership {
      case .map: try mustMap(bottom, of: image)
      case .chown: false
      case .auto: canMapIDs(of: bottom)
      }
    if maps {
      try makeUpper(in: draft, like: bottom, range: range)
      return .layers(image: image.description, folders: layers)
    }
    guard layers.count == 1 else {
      throw Failure(
        "create a machine from", image.description, "an image of several layers cannot be copied into one tree",
        advice: "use PrivateUsersOwnership=map", kind: .refused)
    }
    let root = try draft.makeDirectory("root", mode: 0o755)
    try copyTree(from: bottom, to: root, shift: try shift(from: 0, to: range), subject: image.description)
    return .copy(image: image.description)
  }

  /// What `PrivateUsersOwnership=map` asks for is had at every start or refused now.
  private func mustMap(_ layer: Descriptor, of image: MachineSpec.ImageName) throws(Failure) -> Bool {
    if canMapIDs(of: layer) { return true }
    throw Failure(
      "create a machine from", image.description, "its file system cannot show its files with other ids here",
      advice: "leave PrivateUsersOwnership=map out: the machine gets a copy", kind: .refused)
  }

  /// The upper's own attributes are the merged root's: they must be those of the image's root, in the machine's ids.
  func makeUpper(in folder: Descriptor, like bottom: Descriptor, range: UIDRange) throws(Failure) {
    let status = try bottom.status()
    let upper = try folder.makeDirectory("upper", mode: 0o755)
    try check(
      fchown(upper.raw, range.base + min(status.uid, 65535), range.base + min(status.gid, 65535)), "give away", "upper")
    try check(fchmod(upper.raw, status.mode), "set the mode of", "upper")
    _ = try folder.makeDirectory("work", mode: 0o700)
  }
}

extension MachineUUID {
  /// A random id of version 4.
  static func random() throws(Failure) -> MachineUUID {
    let bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    do {
      return try MachineUUID(randomBytes: bytes)
    } catch {
      throw Failure("make", "a machine's id", error.description)
    }
  }
}
