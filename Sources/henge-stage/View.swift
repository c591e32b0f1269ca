import CLinux
import Glibc
import Linux
import StageProtocol

/// Becomes a program of the host's that sees a few folders of a machine, read-only, and nothing else of it.
///
/// It runs as the machine's root would, without any capability, in namespaces of its own: whoever takes it over by
/// what it reads has less than the machine's root has anyway, and no machine to be seen from it.
func view(_ bytes: [UInt8], users: UserNamespace, channel: Channel) throws(Failure) {
  let request: ViewRequest
  do {
    request = try ViewRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  umask(0)
  var setup = Setup(
    rootID: request.rootID, userNamespace: users, channel: channel,
    mountPoint: request.mountPoint)
  try setup.perform(.isolateMounts)
  let shown: [ShownFolder]
  switch request.source {
  case .running(let paths):
    shown = paths.enumerated().map { index, path in
      let number = StageDescriptor.tree + Int32(index)
      return ShownFolder(path: path, tree: MountTree(descriptor: Descriptor(adopting: number)))
    }
  case .stopped(let root, let binds):
    try setup.perform(.root(root, readOnly: true))
    // What of them cannot be bound on a root that nobody may write to was not there when the machine ran.
    for bind in binds { try? setup.perform(.bind(bind)) }
    shown = try folders(request.folders, below: setup.root)
  }
  try makeRoom(for: shown, in: &setup)
  try setup.perform(.enterNamespaces())
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
      // With what is mounted below: in a user's namespace the kernel gives no tree without it.
      let tree = try MountTree(copying: name, from: host, recursive: true)
      try tree.change(set: [.readOnly, .noSetID, .noDevices], recursive: true)
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
