import Images
import Linux
import MachineSpec
import MachineStore

extension MachineManager {
  /// The images in the store.
  public var images: ImageStore { ImageStore(state: store.places.state) }

  /// The machines that need an image to start: those that lie over its layers.
  public func users(of image: String) throws(Failure) -> [MachineName] {
    try store.names().filter { name in
      if case .layers(image, _) = (try? store.record(of: name))?.root { return true }
      return false
    }
  }
}
