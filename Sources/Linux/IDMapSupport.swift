/// Whether the file system that holds a folder can show it with other ids, tried with a mount that nobody sees.
///
/// A user namespace has no say over file systems that were mounted outside of it: there the answer is no.
///
/// - Parameter folder: an open folder.
public func canMapIDs(of folder: Descriptor) -> Bool {
  do {
    // On a host any id will do, and one that nobody has is best; in a namespace there must be one.
    let isHost = try OwnIDs.current().isWhole
    let namespace = try UserNamespace(
      mapping: isHost ? UIDRange(base: 0x6fff_0000) : UIDRange(base: 1, count: 1))
    let tree = try MountTree(copying: "", from: folder)
    try tree.change(userNamespace: namespace)
    return true
  } catch {
    return false
  }
}
