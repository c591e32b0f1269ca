import CLinux
import Glibc
import Linux
import StageProtocol

/// Becomes a program of the host's that sees a few folders of a machine, read-only, and nothing else of it.
///
/// It runs as the machine's root would, without any capability, in namespaces of its own: whoever takes it over by
/// what it reads has less than the machine's root has anyway, and no machine to be seen from it.
func view(_ bytes: [UInt8], namespace: Descriptor, channel: Channel) throws(Failure) {
  let request: ViewRequest
  do {
    request = try ViewRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  umask(0)
  var setup = Setup(
    rootID: request.rootID, userNamespace: UserNamespace(descriptor: namespace), channel: channel,
    mountPoint: request.mountPoint)
  try setup.perform(.isolateMounts)
  let shown: [ShownFolder]
  switch request.source {
  case .running: shown = try foldersInside(request.folders, leader: namespace)
  case .stopped(let root, let binds):
    try setup.perform(.root(root, readOnly: true))
    // What of them cannot be bound on a root that nobody may write to was not there when the machine ran.
    for bind in binds { try? setup.perform(.bind(bind)) }
    shown = try folders(request.folders, below: setup.root)
  }
  try makeRoom(for: shown, in: &setup)
  try setup.perform(.enterNamespaces)
  try setup.perform(.adoptRoot)
  try setup.perform(
    .mount(
      filesystem: "proc", path: "/proc", options: ["subset=pid"], attributes: [.noSetID, .noDevices, .noExecute]))
  try setup.perform(.pivot)
  try Capabilities.confine(dropping: Array(0..<Capabilities.count))
  try check(clinux_set_no_new_privileges(), "give up", "new privileges")
  // Set last, because changing ids clears it. Who has ended before that no more takes the message below.
  try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the parent")
  _ = setsid()
  umask(0o022)
  clinux_reset_signals()
  try check(clinux_close_range(3, true), "close descriptors")
  try channel.send(.executing(clinux_monotonic_microseconds()))
  guard let program = request.program.first else { throw Failure("execute", "nothing", "no program is named") }
  let result = withCStrings(request.program) { arguments in
    withCStrings(request.environment) { clinux_execute(program, arguments, $0) }
  }
  try check(result, "execute", program)
}

/// A folder of the machine's as a detached mount, and where it belongs.
private struct ShownFolder {
  var path: String
  var tree: MountTree
}

/// Looks the folders up inside the machine, as the machine's root: wherever the machine leads there, it has led itself.
///
/// By a child, because whoever joins the machine's mounts has left the host's; the machine's processes are not joined,
/// so nobody in there sees it.
private func foldersInside(_ paths: [String], leader: Descriptor) throws(Failure) -> [ShownFolder] {
  let pair = try SocketPair(packets: true)
  let child = clinux_fork()
  try check(child, "fork")
  if child == 0 {
    let back = Channel(pair.second)
    do throws(Failure) {
      try joinNamespaces(leader, [.user, .mount])
      try check(clinux_become(0, 0), "become", "the machine's root")
      try hideFromOthers()
      try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the parent")
      let root = try Descriptor.open("/", [.path, .directory])
      for folder in try folders(paths, below: root) {
        try pair.second.send(Array(folder.path.utf8), passing: folder.tree.descriptor)
      }
      exit(0)
    } catch {
      back.report(error)
      exit(1)
    }
  }
  var status: Int32 = 0
  while waitpid(child, &status, 0) < 0, errno == EINTR {}
  try check(clinux_set_nonblocking(pair.first.raw, true), "wait for", "the folders")
  var result: [ShownFolder] = []
  while let (bytes, descriptor) = try pair.first.receive() {
    guard let descriptor else {
      if case .failed(let failure)? = try? StageMessage(decoding: bytes) {
        throw Failure(failure.operation, failure.subject, failure.reason)
      }
      break
    }
    result.append(ShownFolder(path: String(decoding: bytes, as: UTF8.self), tree: MountTree(descriptor: descriptor)))
  }
  guard !result.isEmpty else { throw Failure("look for", "the folders", "the process that looked for them ended") }
  return result
}

/// The folders that are there, beneath a root.
///
/// - Throws: `Failure` when none is.
private func folders(_ paths: [String], below root: Descriptor) throws(Failure) -> [ShownFolder] {
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
      try check(
        clinux_mount_propagation(tree.descriptor.raw, "", true, clinux_ms_private), "change the propagation of", path)
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

/// A root with the host's /usr and the folders, in which nothing can be written.
private func makeRoom(for shown: [ShownFolder], in setup: inout Setup) throws(Failure) {
  let host = try Descriptor.open("/", [.path, .directory])
  let memory = try MountTree(filesystem: "tmpfs", options: [("mode", "0755"), ("size", "4M"), ("nr_inodes", "256")])
  try memory.attach(on: try Descriptor.open(setup.mountPoint, [.path, .directory, .noFollow]))
  setup.root = memory.descriptor
  try check(fchdir(memory.descriptor.raw), "enter", "the view")

  for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
    switch try host.status(of: name)?.kind {
    case .symbolicLink:
      guard let target = host.linkTarget(name) else { continue }
      try check(symlinkat(target, memory.descriptor.raw, name), "link", name)
    case .directory:
      try check(mkdirat(memory.descriptor.raw, name, 0o755), "make the folder", name)
      let tree = try MountTree(copying: name, from: host)
      try tree.change(set: [.readOnly, .noSetID, .noDevices])
      try tree.attach(on: try memory.descriptor.open(name, [.path, .directory], lookup: .beneath))
    default: break
    }
  }
  try check(mkdirat(memory.descriptor.raw, "proc", 0o755), "make the folder", "proc")
  try check(mkdirat(memory.descriptor.raw, "etc", 0o755), "make the folder", "etc")
  // Times are the operator's.
  if let zone = try? Descriptor.open("/etc/localtime").readAll(subject: "/etc/localtime") {
    let file = try memory.descriptor.open("etc/localtime", [.write, .create], lookup: .beneath, mode: 0o644)
    try file.writeAll(zone, subject: "/etc/localtime")
  }
  for folder in shown {
    var place = memory.descriptor
    for name in (ViewRequest.place + folder.path).split(separator: "/") {
      place = try place.makeDirectory(String(name), mode: 0o755)
    }
    try folder.tree.attach(on: place)
  }
  try memory.change(set: [.readOnly, .noSetID, .noDevices])
}
