import CLinux
import Glibc
import SystemPackage

/// A user namespace held by a descriptor: it exists without a process, outlives the machine's reboots, and maps the ids
/// of mounts as well as of processes.
public struct UserNamespace: Sendable {
  /// The open namespace, as of `/proc/PID/ns/user`.
  public let descriptor: Descriptor

  /// A namespace that is open already.
  public init(descriptor: Descriptor) {
    self.descriptor = descriptor
  }

  /// Makes a user namespace whose id 0 is the first id of a range, for users and groups alike.
  ///
  /// It is created under the range's own first id, so that what the kernel counts per creator (inotify instances,
  /// keys, pending signals) is counted apart for every machine.
  ///
  /// - Parameter range: the host ids.
  /// - Throws: `Failure` from `clone3`, `unshare`, or the writing of `uid_map` and `gid_map`.
  public init(mapping range: UIDRange) throws(Failure) {
    var release: Int32 = -1
    let child = clinux_user_namespace_create(range.base, range.base, &release)
    try check(child, "make a user namespace", "\(range)")
    defer { clinux_user_namespace_release(child, release) }

    let process = try Descriptor.open("/proc/\(child)", [.path, .directory])
    let line = "0 \(range.base) \(range.count)\n"
    for file in ["gid_map", "uid_map"] {
      let map = try process.open(file, .write, lookup: .trusted)
      try map.writeAll(line.utf8, subject: file)
    }
    descriptor = try process.open("ns/user", .read, lookup: .trusted)
  }
}

/// The kinds of namespaces of `clone(2)`.
public struct NamespaceKinds: OptionSet, Sendable {
  /// The `CLONE_NEW…` bits.
  public let rawValue: UInt64
  /// Wraps `CLONE_NEW…` bits.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Users, groups, capabilities.
  public static let user = NamespaceKinds(rawValue: clinux_newuser)
  /// Mounts.
  public static let mount = NamespaceKinds(rawValue: clinux_newns)
  /// Process ids.
  public static let pid = NamespaceKinds(rawValue: clinux_newpid)
  /// The network stack.
  public static let network = NamespaceKinds(rawValue: clinux_newnet)
  /// System V and POSIX message queues, semaphores, shared memory.
  public static let ipc = NamespaceKinds(rawValue: clinux_newipc)
  /// The host's name.
  public static let uts = NamespaceKinds(rawValue: clinux_newuts)
  /// The root of the control groups.
  public static let cgroup = NamespaceKinds(rawValue: clinux_newcgroup)
}

/// Joins a namespace. The corresponding C function is `setns`. Only for a process with a single thread.
///
/// - Parameters:
///   - descriptor: an open namespace, or a pidfd.
///   - kinds: which of the pidfd's namespaces, or what the namespace must be.
public func joinNamespaces(_ descriptor: Descriptor, _ kinds: NamespaceKinds) throws(Failure) {
  try check(clinux_setns(descriptor.raw, kinds.rawValue), "join namespaces")
}

/// Leaves namespaces for new ones. The corresponding C function is `unshare`.
public func unshareNamespaces(_ kinds: NamespaceKinds) throws(Failure) {
  try check(clinux_unshare(kinds.rawValue), "make namespaces")
}

/// Exchanges the session keyring of this process for an empty one. The corresponding C function is `keyctl`.
public func joinNewSessionKeyring() throws(Failure) {
  try check(clinux_join_session_keyring(), "make a session keyring")
}
