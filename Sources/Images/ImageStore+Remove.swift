import CLinux
import Linux
import MachineSpec
import SystemPackage

extension ImageStore {
  /// Removes an image.
  ///
  /// Its folder loses the name first, in one step, so that a kill leaves no half image; what is left then is removed by
  /// the next import or removal.
  ///
  /// - Parameters:
  ///   - name: the image.
  ///   - isUsed: asked with the store's lock held: who uses the image, or nil when nobody does.
  /// - Throws: `Failure` of kind `notFound`; or when it is in use, or a file of it cannot be removed.
  public func remove(_ name: ImageName, isUsed: (ImageName) throws -> String?) throws {
    removeLeftovers()
    var removing = ""
    let raw = try withLock { () throws -> Int32 in
      let folder = try open(name)
      if let user = try isUsed(name) {
        throw Failure("remove the image", name.description, "it is used by \(user)", advice: "remove that first")
      }
      if clinux_lock(folder.raw, 0) < 0 {
        throw Failure("remove the image", name.description, "it is being removed or imported already")
      }
      removing = try giveUp(name.description)
      _ = clinux_fsync(images.raw)
      return folder.release()
    }
    // Held until the end: it tells other removers that somebody is at it.
    let held = OwnedDescriptor(raw)
    defer { clinux_unlock(held.raw) }
    try TreeRemove.remove(removing, in: FileDescriptor(rawValue: images.raw), path: "\(path)/\(removing)")
  }

  /// Takes the name from a folder, which is from then on the remover's; with the store's lock held.
  func giveUp(_ name: String) throws(Failure) -> String {
    for number in 0..<10000 {
      let removing = "\(name).\(number)\(ImageName.removing)"
      let result = clinux_renameat(images.raw, name.asName, images.raw, removing.asName, 0)
      if result == 0 { return removing }
      if result != -17 { try Calls.check(result, "rename", "\(path)/\(name)") }
    }
    throw Failure(
      "remove", "\(path)/\(name)", "too many removals were cut off", advice: "look into \(path)/*.removing")
  }

  /// Removes what dead removers and importers left. What cannot be removed stays: it is nobody's image, and the error
  /// would be another command's.
  func removeLeftovers() {
    var leftovers: [String] = []
    guard let folder = try? Calls.open(images.raw, ".", CLINUX_O_DIRECTORY, path: path) else { return }
    try? DirectoryReader().forEach(folder.raw, path: path) { name, _ in
      let text = String(name: name)
      if text.hasSuffix(ImageName.removing) || text.hasSuffix(ImageName.partial) { leftovers.append(text) }
    }
    for leftover in leftovers {
      var name = leftover
      // The lock is taken with the store's held: an importer makes its folder and locks it under that one.
      guard
        let raw = try? withLock({ () throws -> Int32? in
          let opened = clinux_openat(images.raw, leftover.asName, CLINUX_O_DIRECTORY, 0)
          if opened < 0 { return nil }
          let owned = OwnedDescriptor(opened)
          guard clinux_lock(owned.raw, 0) == 0 else { return nil }
          // So that an importer of that name need not wait for us.
          if leftover.hasSuffix(ImageName.partial) { name = try giveUp(leftover) }
          return owned.release()
        })
      else { continue }
      let held = OwnedDescriptor(raw)
      try? TreeRemove.remove(name, in: FileDescriptor(rawValue: images.raw), path: "\(path)/\(name)")
      clinux_unlock(held.raw)
    }
  }
}
