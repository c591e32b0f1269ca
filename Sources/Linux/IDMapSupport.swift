/// Whether the file system that holds a folder can show it with other ids, tried with a mount that nobody sees.
///
/// - Parameter folder: an open folder.
public func canMapIDs(of folder: Descriptor) -> Bool {
  do {
    let namespace = try UserNamespace(mapping: UIDRange(base: 0x6fff_0000))
    let tree = try MountTree(copying: "", from: folder)
    try tree.change(userNamespace: namespace)
    return true
  } catch {
    return false
  }
}
