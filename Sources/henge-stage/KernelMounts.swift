import CLinux
import Glibc
import Linux
import StageProtocol

/// File systems of the kernel's that show the new namespaces, and what of them is covered.
extension Setup {
  func mountKernelFilesystem(
    _ filesystem: String, path: String, options: [String], attributes: MountFlags
  ) throws(Failure) {
    try makeDirectory(path, mode: 0o755)
    var pairs: [(key: String, value: String?)] = []
    for option in options {
      let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
      pairs.append((parts[0], parts.count > 1 ? parts[1] : nil))
    }
    let tree = try MountTree(filesystem: filesystem, options: pairs, attributes: attributes.kernel)
    try tree.attach(on: try open(path))
  }

  mutating func makeConsole(_ path: String, devpts: String) throws(Failure) {
    let instance = try open(devpts, .directory)
    try channel.send(.terminals, passing: instance)
    let pty = try Pty(in: instance)
    let (folder, name) = try parent(of: path)
    if try folder.status(of: name) == nil { try makeFile(path, mode: 0o600, contents: []) }
    let tree = try MountTree(copying: "", from: pty.terminal)
    try tree.attach(on: try open(path))
    console = pty.terminal
    try channel.send(.console, passing: pty.controller)
  }

  /// Covers what somebody in the machine could open. A file that the host's root alone may open is refused to all of
  /// them by the kernel: its owner has no id in the machine, and so no capability of theirs counts for it. Each mount
  /// less is a gain at every start of a sandboxed service, which reads the whole table of mounts over and over.
  func mask(_ path: String) throws(Failure) {
    guard let target = try openIfThere(path) else { return }
    let status = try target.status()
    if status.uid != 0, status.gid != 0, status.mode & 0o007 == 0 { return }
    if status.kind == .directory {
      // Empty, but open to look into: a service without CAP_DAC_OVERRIDE takes "not there" for an answer and "not
      // allowed" for a failure (systemd 262's hostnamed ends when it may not look below /sys/firmware).
      let empty = try MountTree(
        filesystem: "tmpfs", options: [("mode", "0555"), ("size", "4k"), ("nr_inodes", "2")],
        attributes: [.readOnly, .noSetID, .noDevices, .noExecute])
      try empty.attach(on: target)
    } else {
      let node = try open("/run/host/inaccessible/reg")
      guard try node.status().kind == .regular else { throw Failure("mask", path, "the cover is not a file") }
      let cover = try MountTree(copying: "", from: node)
      try cover.change(set: [.readOnly, .noSetID, .noDevices, .noExecute])
      try cover.attach(on: target)
    }
  }

  private func openIfThere(_ path: String) throws(Failure) -> Descriptor? {
    do {
      return try open(path)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return nil }
      throw error
    }
  }
}
