import CLinux
import Glibc
import Linux
import StageProtocol

/// A machine being set up: what the operations share.
struct Setup {
  let rootID: UInt32
  let userNamespace: UserNamespace
  let channel: Channel
  /// A folder of the host's to put the root together on.
  let mountPoint: String
  /// The machine's root, from when it is mounted; every path is looked up beneath it.
  var root = Descriptor.currentDirectory
  /// The terminal of process 1.
  var console: Descriptor?

  mutating func perform(_ operation: SetupOperation) throws(Failure) {
    switch operation {
    case .isolateMounts: try isolateMounts()
    case .root(let source, let readOnly): try mountRoot(source, readOnly: readOnly)
    case .checkInit(let candidates, let architecture): try checkInit(candidates, architecture: architecture)
    case .directory(let path, let mode): try makeDirectory(path, mode: mode)
    case .file(let path, let mode, let contents): try makeFile(path, mode: mode, contents: contents)
    case .symbolicLink(let path, let target): try makeSymbolicLink(path, target: target)
    case .copy(let source, let path, let mode): try copyFile(source, to: path, mode: mode)
    case .linkIfThere(let path, let target, let needs):
      if (try? root.open(needs, .path, lookup: .inRoot)) != nil { try makeSymbolicLink(path, target: target) }
    case .remove(let path): try remove(path)
    case .inaccessibleNodes(let path): try makeInaccessibleNodes(path)
    case .memory(let path, let kind, let mode, let options, let attributes):
      try mountMemory(path, kind: kind, mode: mode, options: options, attributes: attributes)
    case .bind(let bind): try self.bind(bind)
    case .device(let path, let major, let minor): try makeDevice(path, major: major, minor: minor)
    case .unlayered(let path, let upper): try showUnlayered(path, upper: upper)
    case .notifySocket(let path): try makeNotifySocket(path)
    case .watchedFolder(let path, let mode):
      try makeDirectory(path, mode: mode)
      try channel.send(.watchedFolder, passing: try open(path, .directory))
    case .sealMount(let path): try sealMount(path)
    case .showKernel: showKernel()
    case .enterNamespaces(let sharesNetwork): try enterNamespaces(sharesNetwork: sharesNetwork)
    case .hostname(let name): try check(sethostname(name, name.utf8.count), "set the host name", name)
    case .adoptRoot: try adoptRoot()
    case .mount(let filesystem, let path, let options, let attributes):
      try mountKernelFilesystem(filesystem, path: path, options: options, attributes: attributes)
    case .console(let path, let devpts): try makeConsole(path, devpts: devpts)
    case .mask(let path): try mask(path)
    case .pivot:
      try check(clinux_pivot_here(), "pivot into", "the machine's root")
      // The machine's services expect what is mounted in one place to show everywhere; systemd leaves it to us.
      try setPropagation(.shared, of: "/")
    case .watchConnections: try watchConnections()
    case .confine(let dropped): try Capabilities.confine(dropping: dropped)
    }
  }

  private func isolateMounts() throws(Failure) {
    try unshareNamespaces(.mount)
    try setPropagation(.isolated, of: "/")
  }

  /// Leaves the outer child behind: from here on this is process 1 of the machine's namespaces.
  private func enterNamespaces(sharesNetwork: Bool) throws(Failure) {
    try joinNamespaces(userNamespace.descriptor, .user)
    try check(clinux_become(0, 0), "become", "the machine's root")
    // Keys of whoever started the supervisor would be in the machine's possession.
    try joinNewSessionKeyring()
    var kinds: NamespaceKinds = [.mount, .pid, .ipc, .uts, .cgroup]
    if !sharesNetwork { kinds.insert(.network) }
    var leader: Int32 = -1
    // As the supervisor's own child, so that it, and nobody between, gets to know how process 1 ended.
    let child = clinux_clone_sibling(kinds.rawValue, &leader)
    try check(child, "make namespaces")
    if child > 0 {
      try channel.send(.leader(child), passing: Descriptor(adopting: leader))
      exit(0)
    }
    try hideFromOthers()
  }
}
