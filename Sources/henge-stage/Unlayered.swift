import Glibc
import Linux
import StageProtocol

/// Folders of the machine's that lie on the disk itself: the kernel takes no upper for an overlay that is on an overlay.
extension Setup {
  /// What is written there goes where the machine's own overlay would have put it, so it is found by a clone, by a copy,
  /// and without this setting. Nobody comes to it by that overlay meanwhile: the mount is one that the machine cannot
  /// take away.
  func showUnlayered(_ path: String, upper: String) throws(Failure) {
    try makeDirectory(path, mode: 0o755)
    let merged = try open(path, .directory)
    let status = try merged.status()
    // Below a mount of the operator's it is none of the overlay's anyway.
    guard status.device == (try root.status().device) else { return }
    // To overlayfs this is a change, by which a folder of the image's gets one in the upper.
    try check(fchmod(merged.raw, mode_t(status.mode)), "bring up", path)
    let folder = try Descriptor.open(upper, [.path, .directory, .noFollow])
      .open(path, [.path, .directory, .noFollow], lookup: .beneath)
    guard Set(try merged.names()).isSubset(of: try folder.names()) else {
      throw Failure(
        "take out of the layers", path, "the image has files there",
        advice: "leave Unlayered= away, or create the machine with PrivateUsersOwnership=chown")
    }
    let tree = try MountTree(copying: "", from: folder)
    try tree.change(set: .noDevices)
    try tree.attach(on: merged)
  }
}
