import CLinux
import Glibc
import Linux
import StageProtocol

/// The machine's root: made of detached mounts, so that no path leads to it before it is complete.
extension Setup {
  mutating func mountRoot(_ source: RootSource, readOnly: Bool) throws(Failure) {
    let tree: MountTree
    switch source {
    case .directory(let path, let mapped): tree = try layer(RootLayer(path: path, mapped: mapped))
    case .overlay(let layers, let upper, let user): tree = try overlay(layers, upper: upper, userAttributes: user)
    case .memory(let usr): tree = try memoryRoot(usr)
    }
    // A device node in an image must never work, and the machine's root must not be able to change that: see `boot`.
    var attributes: MountAttributes = .noDevices
    if readOnly { attributes.insert(.readOnly) }
    try tree.change(set: attributes)
    // Not on the host's root itself, where it would be in the way of letting go of that.
    try tree.attach(on: try place())
    root = tree.descriptor
    try check(fchdir(root.raw), "enter", "the machine's root")
  }

  /// Where mounts need a place in the tree; each lands on top of the one before.
  private func place() throws(Failure) -> Descriptor {
    try Descriptor.open(mountPoint, [.path, .directory, .noFollow])
  }

  private func layer(_ layer: RootLayer) throws(Failure) -> MountTree {
    // The store is the host's own, but what lies at its end is the image's: a link there is not followed.
    let folder = try Descriptor.open(layer.path, [.path, .directory, .noFollow])
    let tree = try MountTree(copying: "", from: folder)
    if layer.mapped { try tree.change(userNamespace: userNamespace) }
    return tree
  }

  /// Layers get their ids before they are merged: overlayfs itself cannot be idmapped.
  private func overlay(
    _ layers: [RootLayer], upper: OverlayUpper, userAttributes: Bool
  ) throws(Failure) -> MountTree {
    var parts: [(key: String, value: Descriptor)] = []
    for layer in layers { parts.append(("lowerdir+", try seated(try self.layer(layer)).descriptor)) }
    switch upper {
    case .directory(let upper, let work):
      parts.append(("upperdir", try Descriptor.open(upper, [.path, .directory, .noFollow])))
      parts.append(("workdir", try Descriptor.open(work, [.path, .directory, .noFollow])))
    case .memory:
      let memory = try memoryUpper()
      parts.append(("upperdir", try memory.open("upper", [.path, .directory], lookup: .beneath)))
      parts.append(("workdir", try memory.open("work", [.path, .directory], lookup: .beneath)))
    }
    var options: [(key: String, value: String?)] = [("source", "henge")]
    if userAttributes { options.append(("userxattr", nil)) }
    return try MountTree(filesystem: "overlay", options: options, descriptors: parts)
  }

  /// Before 6.15 the kernel copies mounts, which is what overlayfs does with its layers, only from a place in the tree.
  /// So there it gets one, below the root; it goes when the machine lets go of the host's root.
  private func seated(_ tree: MountTree) throws(Failure) -> MountTree {
    if !MountTree.overlayTakesDescriptors { try tree.attach(on: try place()) }
    return tree
  }

  /// Overlayfs takes an upper only from a mount with a place in the tree, so this one gets one, below the root.
  private func memoryUpper() throws(Failure) -> Descriptor {
    let memory = try MountTree(filesystem: "tmpfs", options: [("mode", "0700"), ("size", "50%")])
    try memory.attach(on: try place())
    for (name, owner) in [("upper", rootID), ("work", 0)] {
      try check(mkdirat(memory.descriptor.raw, name, 0o755), "make the folder", name)
      try check(fchownat(memory.descriptor.raw, name, owner, owner, 0), "give away", name)
    }
    return memory.descriptor
  }

  /// A root in memory with the image's /usr: what is not in /usr is made anew by the machine at every start.
  private func memoryRoot(_ layers: [RootLayer]) throws(Failure) -> MountTree {
    let whole = try layers.count == 1 ? layer(layers[0]) : overlay(layers, upper: .memory, userAttributes: false)
    let memory = try MountTree(
      filesystem: "tmpfs",
      options: [("mode", "0755"), ("size", "50%"), ("uid", "\(rootID)"), ("gid", "\(rootID)")])
    try check(mkdirat(memory.descriptor.raw, "usr", 0o755), "make the folder", "/usr")
    try check(fchownat(memory.descriptor.raw, "usr", rootID, rootID, 0), "give away", "/usr")
    let usr = try MountTree(copying: "usr", from: try seated(whole).descriptor)
    try usr.change(set: [.readOnly, .noDevices])
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
      guard try whole.descriptor.status(of: name)?.kind == .symbolicLink else { continue }
      try check(symlinkat("usr/\(name)", memory.descriptor.raw, name), "link", "/\(name)")
      try check(
        fchownat(memory.descriptor.raw, name, rootID, rootID, clinux_at_symlink_nofollow), "give away", "/\(name)")
    }
    // Attached below once the root itself is: a detached mount takes no mounts on older kernels.
    try memory.attach(on: try place())
    try usr.attach(on: try memory.descriptor.open("usr", [.path, .directory], lookup: .beneath))
    return try MountTree(copying: "", from: memory.descriptor, recursive: true)
  }

  /// Makes the root a mount of this namespace's own, which is what it may pivot into. The current directory came along
  /// with the copy of the mounts; no path has to lead here.
  mutating func adoptRoot() throws(Failure) {
    let here = try Descriptor.open(".", [.path, .directory])
    let tree = try MountTree(copying: "", from: here, recursive: true)
    try tree.attach(on: here)
    root = tree.descriptor
    try check(fchdir(root.raw), "enter", "the machine's root")
  }
}
