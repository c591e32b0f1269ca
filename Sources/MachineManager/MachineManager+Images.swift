import Images
import Linux
import MachineSpec
import MachineStore

extension MachineManager {
  /// Removes an image that no machine lies over.
  public func removeImage(_ name: String) throws {
    try store.images().remove(try ImageName(name)) { image in
      try users(of: image.description).first?.description
    }
  }

  /// The machines that need an image to start: those that lie over its layers.
  public func users(of image: String) throws(Failure) -> [MachineName] {
    try store.names().filter { name in
      if case .layers(image, _) = (try? store.record(of: name))?.root { return true }
      return false
    }
  }
}
