import CLinux
import Glibc
import Linux
import StageProtocol

/// Leaves the host's files for a root in memory, in a mount namespace of this process's own.
///
/// - Parameters:
///   - place: a folder of the host's that it is mounted on; nobody else sees that.
///   - withPrograms: whether the host's programs, its `/etc` and the few devices that a forwarder takes are in it.
func enterSmallRoot(on place: String, withPrograms: Bool) throws(Failure) {
  try unshareNamespaces(.mount)
  try setPropagation(.isolated, of: "/")
  let root = try MountTree(filesystem: "tmpfs", options: [("mode", "0755"), ("size", "1m")], attributes: .noSetID)
  try root.attach(on: try Descriptor.open(place, [.path, .directory, .noFollow]))
  let folder = root.descriptor
  if withPrograms {
    // A mount of its own, as slirp4netns expects of it.
    try make("run", in: folder)
    let run = try MountTree(filesystem: "tmpfs", options: [("mode", "0755"), ("size", "4k")], attributes: .noSetID)
    try run.attach(on: try folder.open("run", [.path, .directory], lookup: .beneath))
    for name in ["usr", "etc", "proc", "run/systemd/resolve"] { try show(name, in: folder) }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
      if let target = Descriptor.currentDirectory.linkTarget("/\(name)") {
        try check(symlinkat(target, folder.raw, name), "link", "/\(name)")
      } else {
        try show(name, in: folder)
      }
    }
    try make("tmp", in: folder)
    try make("dev/net", in: folder)
    try makeDevice("null", 1, 3, in: folder)
    try makeDevice("urandom", 1, 9, in: folder)
    try makeDevice("net/tun", 10, 200, in: folder)
  }
  try check(fchdir(folder.raw), "enter", place)
  try check(clinux_pivot_here(), "pivot into", place)
  if !withPrograms { try MountTree(descriptor: folder).change(set: [.readOnly, .noDevices, .noExecute]) }
}

private func make(_ path: String, in root: Descriptor) throws(Failure) {
  var done = ""
  for part in path.split(separator: "/") {
    done += done.isEmpty ? String(part) : "/\(part)"
    if mkdirat(root.raw, done, 0o755) < 0, errno != EEXIST {
      throw Failure("make the folder", done, errno: .init(rawValue: errno))
    }
  }
}

/// The host's folder of this name, read-only but for the kernel's own; one that is not there is left out.
private func show(_ name: String, in root: Descriptor) throws(Failure) {
  guard let source = try? Descriptor.open("/\(name)", [.path, .directory]) else { return }
  try make(name, in: root)
  // With what is mounted below it: a container's /etc/resolv.conf is a mount of its own, and who is not the host's root
  // may not look beneath a mount.
  let tree = try MountTree(copying: "", from: source, recursive: true)
  if name != "proc" { try tree.change(set: [.readOnly, .noSetID, .noDevices], recursive: true) }
  try tree.attach(on: try root.open(name, [.path, .directory], lookup: .beneath))
}

/// A node of its own, that the machine's ids may open; where none may be made, the host's.
private func makeDevice(_ name: String, _ major: UInt32, _ minor: UInt32, in root: Descriptor) throws(Failure) {
  let path = "dev/\(name)"
  if mknodat(root.raw, path, S_IFCHR | 0o666, dev_t(major) << 8 | dev_t(minor)) == 0 {
    try check(fchmodat(root.raw, path, 0o666, 0), "open to all", path)
    return
  }
  guard errno == EPERM else { throw Failure("make the device", path, errno: .init(rawValue: errno)) }
  let node = try Descriptor.open("/\(path)", [.path, .noFollow])
  let target = try root.open(path, [.write, .create], lookup: .beneath, mode: 0o600)
  try MountTree(copying: "", from: node).attach(on: target)
}
