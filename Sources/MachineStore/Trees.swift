import Images
import Linux
import MachineSpec
import SystemPackage

/// Copying trees between ranges of ids, for machines.
extension MachineStore {
  func shift(from: UInt32, to range: UIDRange) throws(Failure) -> IDShift {
    // Copying looks at every file once, so an id may be of both ranges, as in a user's namespace of 65537 ids.
    try IDShift(from: from, to: range.base, count: range.count, mayOverlap: true)
  }

  func copyTree(from source: Descriptor, to target: Descriptor, shift: IDShift?, subject: String) throws(Failure) {
    var copy = TreeCopy()
    copy.shift = shift
    do {
      _ = try copy.copy(
        from: FileDescriptor(rawValue: source.raw), to: FileDescriptor(rawValue: target.raw), sourcePath: subject)
    } catch let error as Failure {
      throw error
    } catch {
      throw Failure("copy", subject, "\(error)")
    }
  }

  /// The folders of an image's layers, the lowest first.
  func layers(of image: ImageName) throws(Failure) -> [String] {
    try images().status(image).layers
  }

  /// The images of this store.
  public func images() throws(Failure) -> ImageStore {
    let state = try Descriptor.folder(places.state)
    return try ImageStore(state: FileDescriptor(rawValue: state.raw), path: places.state)
  }
}
