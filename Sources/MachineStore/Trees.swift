import Images
import Linux
import MachineSpec
import SystemPackage

/// Copying trees between ranges of ids, for machines.
extension MachineStore {
  func shift(from: UInt32, to range: UIDRange) throws(Failure) -> IDShift {
    try IDShift(from: from, to: range.base, count: range.count)
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

  func layers(of image: ImageName) throws(Failure) -> [String] {
    _ = try Descriptor.open(layer("layer-0", of: image.description), [.path, .directory, .noFollow])
    return ["layer-0"]
  }
}
