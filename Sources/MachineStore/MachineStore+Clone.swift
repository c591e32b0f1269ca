import CLinux
import Glibc
import Images
import Linux
import MachineSpec

extension MachineStore {
  /// Makes a machine that is a stopped machine's equal, with an identity of its own: another UUID, another range, and
  /// a machine-id that it will make at its first start.
  ///
  /// Of a machine made from an image only what it changed is copied.
  ///
  /// - Parameters:
  ///   - source: the machine to copy.
  ///   - name: the new machine's name.
  ///   - newHostKeys: whether the clone's ssh host keys are removed, so that the machine makes new ones.
  /// - Returns: the new machine's record.
  /// - Throws: `Failure`; nothing is left then.
  public func clone(
    _ source: MachineName, as name: MachineName, newHostKeys: Bool = false
  ) throws(Failure) -> MachineRecord {
    let lock = try lockStopped(source, to: "clone")
    try recover(source, lock: lock)
    let original = try record(of: source)
    let from = try open(source)
    return try make(name, ids: original.range.count) { (draft, range) throws(Failure) in
      var record = MachineRecord(
        name: name, uuid: try .random(), range: range, root: original.root, created: clinux_unix_seconds())
      switch original.root {
      case .layers(let image, let folders):
        guard let base = folders.first else { throw Failure("clone", source.description, "it has no layer") }
        let bottom = try Descriptor.open(layer(base, of: image), [.directory, .noFollow])
        try makeUpper(in: draft, like: bottom, range: range)
        try copyTree(
          from: try from.open("upper", .directory, lookup: .beneath),
          to: try draft.open("upper", .directory, lookup: .beneath),
          shift: try shift(from: original.range.base, to: range), subject: source.description)
        let images = try folders.reversed().map { (folder) throws(Failure) in
          try Descriptor.open(layer(folder, of: image), [.directory, .noFollow])
        }
        try forgetIdentity(
          CloneIdentity(
            tree: try draft.open("upper", .directory, lookup: .beneath), layers: images, base: range.base,
            source: source), newHostKeys: newHostKeys)
      case .copy, .inPlace:
        if case .inPlace = original.root, original.shift == .begun {
          throw Failure(
            "clone", source.description, "the files of its directory are between two ranges of ids",
            advice: "start it once, so that they get there")
        }
        let path = if case .inPlace(let path) = original.root { path } else { "\(folder(of: source))/root" }
        let base = original.shift == .done ? original.range.base : 0
        let root = try draft.makeDirectory("root", mode: 0o755)
        try copyTree(
          from: try Descriptor.open(path, [.directory, .noFollow]), to: root, shift: try shift(from: base, to: range),
          subject: source.description)
        try forgetIdentity(
          CloneIdentity(tree: root, layers: [], base: range.base, source: source), newHostKeys: newHostKeys)
        record.root = .copy(image: original.image ?? "")
        record.shift = .done
      }
      record.ownsSpec = try copySpec(of: source, to: name)
      do throws(Failure) {
        try copyLimits(of: source, to: name)
      } catch {
        if record.ownsSpec { removeSpec(of: name) }
        throw error
      }
      return record
    } told: { _ in
      tell(name, "cloned", ["from": .string(source.description)])
    }
  }

  private func forgetIdentity(_ identity: CloneIdentity, newHostKeys: Bool) throws(Failure) {
    try identity.forgetMachineID()
    guard newHostKeys else { return }
    if try identity.removeHostKeys() > 0 { try identity.checkKeyMaker() }
  }
}
