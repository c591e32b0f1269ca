import CLinux
import Glibc
import Linux
import StageProtocol

/// Hands folders of a running machine out as detached mounts that nobody can write to.
///
/// The machine's mounts and users are joined, its processes are not: nobody in there sees this one. It looks things up
/// as the machine's root would: wherever the machine leads it, it has led itself.
func openFolders(_ bytes: [UInt8], leader: Descriptor, channel: Channel) throws(Failure) {
  let request: FolderRequest
  do {
    request = try FolderRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  try joinNamespaces(leader, [.user, .mount])
  try check(clinux_become(0, 0), "become", "the machine's root")
  try hideFromOthers()
  try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the parent")
  for folder in try folders(request.paths, below: try .open("/", [.path, .directory])) {
    try channel.send(.folder(folder.path), passing: folder.tree.descriptor)
  }
}

/// A folder of the machine's as a detached mount, and where it belongs.
struct ShownFolder {
  var path: String
  var tree: MountTree
}

/// The folders that are there, beneath a root.
///
/// - Throws: `Failure` when none is.
func folders(_ paths: [String], below root: Descriptor) throws(Failure) -> [ShownFolder] {
  let id = machineID(below: root)
  var result: [ShownFolder] = []
  var failure: Failure?
  for path in paths {
    do throws(Failure) {
      let folder = try root.open(path, [.path, .directory], lookup: .inRoot)
      var shown = ShownFolder(path: path, tree: MountTree(descriptor: folder))
      if let id, let own = try? folder.open(id, [.path, .directory, .noFollow], lookup: .beneath) {
        shown = ShownFolder(path: "\(path)/\(id)", tree: MountTree(descriptor: own))
      }
      let tree = try MountTree(copying: "", from: shown.tree.descriptor, recursive: true)
      // What the machine mounts from now on is none of ours.
      try tree.isolate()
      try tree.change(set: [.readOnly, .noSetID, .noDevices, .noExecute, .noSymbolicLinks], recursive: true)
      shown.tree = tree
      result.append(shown)
    } catch {
      if error.errno != .noSuchFileOrDirectory { failure = failure ?? error }
    }
  }
  if result.isEmpty {
    throw failure ?? Failure("find", paths.joined(separator: " or "), "the machine has none of them")
  }
  return result
}

/// What `/etc/machine-id` says; nil for what is no id.
private func machineID(below root: Descriptor) -> String? {
  guard let file = try? root.open("/etc/machine-id", [.read, .nonBlocking], lookup: .inRoot),
    (try? file.status().kind) == .regular, let text = try? file.readHead(33, subject: "machine-id"), text.count >= 32,
    text.prefix(32).allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
  else { return nil }
  return String(decoding: text.prefix(32), as: UTF8.self)
}
