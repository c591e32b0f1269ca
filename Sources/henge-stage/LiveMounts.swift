import CLinux
import Glibc
import Linux
import StageProtocol

/// Attaches or detaches a mount in a running machine.
///
/// The machine's mounts and users are joined, its processes are not: nobody in there sees this one. What it looks up
/// is looked up with the rights of the machine's root, in the machine's own tree; wherever the machine leads it, it has
/// led itself.
func changeMounts(_ bytes: [UInt8], leader: Descriptor, channel: Channel) throws(Failure) {
  let request: MountRequest
  do {
    request = try MountRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  umask(0)
  switch request {
  case .bind(let path, let scratch, let readOnly, let mapped, let makeTarget):
    let tree = MountTree(descriptor: Descriptor(adopting: StageDescriptor.tree))
    let isFolder = try tree.descriptor.status().kind == .directory
    // What the host mounts below it later would show in the machine, with none of the attributes below.
    try tree.isolate()
    // A device node of the host's is none of the machine's, whatever else is shared.
    do throws(Failure) {
      try tree.change(
        set: readOnly ? [.readOnly, .noDevices] : .noDevices,
        userNamespace: mapped ? UserNamespace(descriptor: Descriptor(adopting: StageDescriptor.users)) : nil,
        recursive: true)
    } catch {
      guard mapped, let reason = error.noMapping else { throw error }
      throw Failure("bind", path, reason, advice: "'--no-idmap' binds it as it is", kind: .refused)
    }
    let locked = try lockedCopy(of: tree, isFolder: isFolder, scratch: scratch, leader: leader)
    try joinNamespaces(leader, .mount)
    let target = try bindTarget(path, isFolder: isFolder, make: makeTarget)
    try locked.attach(on: target)
    try channel.send(.mounted(try locked.descriptor.mountID()))
  case .unbind(let path, let mount, let lazy):
    try joinNamespaces(leader, [.user, .mount])
    try check(clinux_become(0, 0), "become", "the machine's root")
    try hideFromOthers()
    guard try mounted(at: path) == mount else {
      var failure = Failure("unbind", path, "the machine has taken it away itself")
      failure.errno = .invalidArgument
      throw failure
    }
    do throws(Failure) {
      try check(clinux_unmount(path, lazy), "unbind", path)
    } catch {
      guard error.errno == .resourceBusy else { throw error }
      throw Failure("unbind", path, "it is in use", advice: "'--lazy' takes it out of sight at once")
    }
    try channel.send(.mounted(mount))
  }
}

/// The same mount as a machine's root has to take it: what it must not undo is locked.
///
/// The kernel locks attributes when mounts are copied into a mount namespace of a less privileged user namespace, and
/// not when a mount is moved there. So the tree is attached in a mount namespace of our own, that one is copied as the
/// machine's root, and of the copy a copy is taken. Afterwards this process is the machine's root.
private func lockedCopy(
  of tree: MountTree, isFolder: Bool, scratch: String, leader: Descriptor
) throws(Failure) -> MountTree {
  try unshareNamespaces(.mount)
  try setPropagation(.isolated, of: "/")
  let cover = try MountTree(filesystem: "tmpfs", options: [("mode", "755")])
  try cover.attach(on: try Descriptor.open(scratch, [.path, .directory]))
  // The machine's root may not walk the host's folders: it starts where it needs no walk.
  try check(chdir(scratch), "enter", scratch)
  let place = "place"
  if isFolder {
    try check(mkdir(place, 0o755), "make", place)
  } else {
    _ = try Descriptor.open(place, [.write, .create, .exclusive], mode: 0o644)
  }
  try tree.attach(on: try Descriptor.open(place, .path))
  try joinNamespaces(leader, .user)
  try check(clinux_become(0, 0), "become", "the machine's root")
  try hideFromOthers()
  try unshareNamespaces(.mount)
  return try MountTree(copying: place, recursive: true)
}

/// A function of its own: an open place keeps its mount in use.
private func mounted(at path: String) throws(Failure) -> UInt64? {
  do throws(Failure) {
    return try root().open(path, .path, lookup: .inRoot).mountID()
  } catch {
    guard error.errno == .noSuchFileOrDirectory else { throw error }
    return nil
  }
}

private func root() throws(Failure) -> Descriptor { try Descriptor.open("/", [.path, .directory]) }

/// The place to attach on, with what is missing on the way made as the machine's root makes it.
private func bindTarget(_ path: String, isFolder: Bool, make: Bool) throws(Failure) -> Descriptor {
  let root = try root()
  do throws(Failure) {
    let target = try root.open(path, .path, lookup: .inRoot)
    guard try target.status().kind == .directory ? isFolder : !isFolder else {
      throw Failure("bind", path, isFolder ? "it is not a folder in the machine" : "it is a folder in the machine")
    }
    return target
  } catch {
    guard error.errno == .noSuchFileOrDirectory else { throw error }
    guard make else {
      throw Failure("bind", path, "there is no such place in the machine", advice: "'--mkdir' makes it")
    }
  }
  var done = ""
  var folder = root
  let parts = path.split(separator: "/").map(String.init)
  for (index, part) in parts.enumerated() {
    done += "/" + part
    if index < parts.count - 1 || isFolder {
      if mkdirat(folder.raw, part, 0o755) < 0, errno != EEXIST { try check(-1, "make the folder", done) }
      // Again from the root, as a link on the way means it.
      folder = try root.open(done, [.path, .directory], lookup: .inRoot)
    } else {
      _ = try folder.open(part, [.write, .create, .exclusive, .noFollow], lookup: .beneath, mode: 0o644)
    }
  }
  return try root.open(path, .path, lookup: .inRoot)
}
