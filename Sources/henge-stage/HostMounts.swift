import CLinux
import Glibc
import Linux
import StageProtocol

/// Mounts that need the host's rights, or whose attributes the machine must not change.
extension Setup {
  func mountMemory(
    _ path: String, kind: MemoryKind, mode: UInt32, options: [String], attributes: MountFlags
  ) throws(Failure) {
    try makeDirectory(path, mode: 0o755)
    var all = [("mode", Optional(String(mode, radix: 8)))]
    if kind == .tmpfs { all += [("uid", "\(rootID)"), ("gid", "\(rootID)")] }
    for option in options {
      let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
      guard let key = parts.first else { continue }
      all.append((key, parts.count > 1 ? parts[1] : nil))
    }
    let tree = try MountTree(
      filesystem: kind == .tmpfs ? "tmpfs" : "ramfs", options: all, attributes: attributes.kernel)
    if kind == .ramfs {
      // By an empty name: what fsmount gives refers to a place and cannot itself be changed.
      try check(fchownat(tree.descriptor.raw, "", rootID, rootID, clinux_at_empty_path), "give away", path)
    }
    try tree.attach(on: try open(path))
  }

  func bind(_ bind: Bind) throws(Failure) {
    let source: Descriptor
    do {
      source = try Descriptor.open(bind.source, .path)
    } catch {
      if bind.optional, error.errno == .noSuchFileOrDirectory { return }
      throw Failure("bind", bind.source, error.reason, advice: "make it, or write '-' before it in the spec")
    }
    let target = try makeBindTarget(bind.path, for: try source.status().kind)
    let tree = try MountTree(copying: "", from: source, recursive: bind.recursive)
    // A device node of the host's is none of the machine's, whatever else is shared.
    try tree.change(
      set: bind.attributes.union(.noDevices).kernel, userNamespace: bind.mapped ? userNamespace : nil,
      recursive: bind.recursive)
    try tree.attach(on: target)
  }

  /// A node of the machine's own: on hosts without udev the host's may be for root alone, and each mount less makes the
  /// start of every sandboxed service shorter. What such a device lets one do is decided by the namespaces of whoever
  /// opens it. Who may make no device, an ordinary user or a machine in a machine, binds the host's.
  func makeDevice(_ path: String, major: UInt32, minor: UInt32) throws(Failure) {
    let folder = path.split(separator: "/").dropLast().joined(separator: "/")
    try makeDirectory(folder, mode: 0o755)
    let (place, name) = try parent(of: path)
    guard mknodat(place.raw, name, S_IFCHR | 0o666, dev_t(major) << 8 | dev_t(minor)) == 0 else {
      guard errno == EPERM else { throw Failure("make the device", path, errno: .init(rawValue: errno)) }
      return try bindDevice(path, major: major, minor: minor)
    }
    try check(fchownat(place.raw, name, rootID, rootID, clinux_at_symlink_nofollow), "give away", path)
    try check(fchmodat(place.raw, name, 0o666, 0), "open to all", path)
  }

  private func bindDevice(_ path: String, major: UInt32, minor: UInt32) throws(Failure) {
    let node = try Descriptor.open(path, [.path, .noFollow])
    let status = try node.status()
    guard status.kind == .characterDevice, status.major == major, status.minor == minor else {
      throw Failure("share the device", path, "on this host it is not the device \(major):\(minor)")
    }
    try makeFile(path, mode: 0, contents: [])
    let tree = try MountTree(copying: "", from: node)
    try tree.change(set: .noSetID)
    try tree.attach(on: try open(path))
  }

  /// Makes a folder that is now full read-only, by its mode as well: while it was being filled, with no more rights than
  /// the machine's root has, its owner had to be able to write.
  func sealMount(_ path: String) throws(Failure) {
    let folder = try open(path, [.path, .directory])
    try check(fchmodat(folder.raw, ".", mode_t(try folder.status().mode & 0o555), 0), "close", path)
    try MountTree(descriptor: folder).change(set: .readOnly)
  }

  func makeNotifySocket(_ path: String) throws(Failure) {
    let (folder, name) = try parent(of: path)
    let socket = try folder.bindSocket(name, datagram: true)
    // Before anybody can send: a datagram sent earlier carries no sender, and an init that is ready within the
    // microseconds until the supervisor has the socket would never be heard.
    try check(clinux_notify_enable(socket.raw), "ask for the senders at", path)
    try check(fchownat(folder.raw, name, rootID, rootID, clinux_at_symlink_nofollow), "give away", path)
    try check(fchmodat(folder.raw, name, 0o666, 0), "open to all", path)
    try channel.send(.notifySocket, passing: socket)
  }

  /// Nodes of each kind with no permission at all; as device they are 0:0, which no driver answers.
  func makeInaccessibleNodes(_ path: String) throws(Failure) {
    try makeDirectory(path, mode: 0o755)
    let folder = try open(path)
    try check(mkdirat(folder.raw, "dir", 0), "make", "\(path)/dir")
    for (name, kind) in [("reg", S_IFREG), ("fifo", S_IFIFO), ("sock", S_IFSOCK), ("chr", S_IFCHR), ("blk", S_IFBLK)] {
      let result = mknodat(folder.raw, name, kind, 0)
      // In a nested host not even root may make a device node; the machine's systemd then does without.
      if result < 0, errno == EPERM, kind == S_IFCHR || kind == S_IFBLK { continue }
      try check(result, "make", "\(path)/\(name)")
    }
  }
}

extension MountFlags {
  var kernel: MountAttributes {
    var result: MountAttributes = []
    if contains(.readOnly) { result.insert(.readOnly) }
    if contains(.noSetID) { result.insert(.noSetID) }
    if contains(.noDevices) { result.insert(.noDevices) }
    if contains(.noExecute) { result.insert(.noExecute) }
    return result
  }
}
