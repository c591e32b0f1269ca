import CLinux
import Glibc
import Linux

/// The namespace that stands for the host where an ordinary user runs machines.
///
/// In it the user is root, and the user's subordinate ids are everybody else; mounts made in it show nowhere else. What
/// runs in it is the same code that runs as the host's root. Nothing of ours is set-uid: the maps are written by the
/// distribution's newuidmap and newgidmap, which see to it that they hold nothing but what the user was given.
public enum ParentNamespace {
  /// Where the distribution's helper is; nil when it is not installed.
  public static func helper(_ name: String) -> String? {
    ["/usr/bin", "/bin", "/usr/local/bin"].lazy.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// Goes into the user's parent namespace and executes this program again, from its start.
  ///
  /// Executed again, because the kernel asks whose memory a process has: what is in `/proc` of our children would
  /// belong to the host's root otherwise. Only for a process with a single thread.
  ///
  /// - Parameters:
  ///   - environment: `NAME=value`, for what cannot be found out any more once the user is root.
  ///   - residents: processes that may be in such a namespace already. The first that is in one with the same ids is
  ///     joined there: who is in another one has no rights over its machines.
  /// - Throws: `Failure` that says what the host lacks; this process is unchanged then.
  public static func enter(environment: [String], residents: [Int32] = []) throws(Failure) -> Never {
    let user = OrdinaryUser.current()
    let map = ParentMap(of: user, SubordinateIDs(of: user))
    guard map.machines > 0 else { throw tooFewIDs(user) }
    if !residents.contains(where: { join($0, map) }) { try make(user, map) }
    guard geteuid() == 0, getegid() == 0 else {
      throw Failure("run machines for", user.label, "the user's namespace has no root")
    }
    for variable in environment {
      let parts = variable.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      if parts.count == 2 { setenv(String(parts[0]), String(parts[1]), 1) }
    }
    guard let resolved = realpath("/proc/self/exe", nil) else {
      throw Failure("find", "the program that runs", errno: .init(rawValue: errno))
    }
    let path = String(cString: resolved)
    let result = withCStrings(CommandLine.arguments) { clinux_execute_again(path, $0) }
    try check(result, "execute", path)
    exit(1)
  }

  /// Why there is no machine for somebody without ids.
  public static func tooFewIDs(_ user: OrdinaryUser) -> Failure {
    Failure(
      "run machines for", user.label,
      "a machine takes 65536 ids, and /etc/subuid and /etc/subgid do not give this user as many",
      advice: SubordinateIDs.command(for: user), kind: .refused)
  }

  /// Joins a process in its user namespace, with mounts of our own; false where that cannot be. The kernel lets nobody
  /// but the user who made it do that.
  private static func join(_ process: Int32, _ map: ParentMap) -> Bool {
    guard let folder = try? Descriptor.open("/proc/\(process)", [.path, .directory]),
      let users = try? folder.readFile("uid_map"), OwnIDs.extents(of: users) == map.users,
      let groups = try? folder.readFile("gid_map"), OwnIDs.extents(of: groups) == map.groups,
      let namespace = try? folder.open("ns/user", .read, lookup: .trusted),
      (try? joinNamespaces(namespace, .user)) != nil
    else { return false }
    return (try? unshareNamespaces(.mount)) != nil
  }

  private static func make(_ user: OrdinaryUser, _ map: ParentMap) throws(Failure) {
    var here = [CChar](repeating: 0, count: 4096)
    let folder = getcwd(&here, here.count).map { String(cString: $0) }
    var release: Int32 = -1
    let child = clinux_namespaces_create(clinux_newuser | clinux_newns, &release)
    do {
      try check(child, "make a user namespace for", user.label)
    } catch {
      throw Failure(
        error.operation, error.subject, error.reason,
        advice: "'hengectl doctor' shows what the host says about user namespaces", kind: .refused)
    }
    defer { clinux_user_namespace_release(child, release) }
    try write(map.users, of: child, with: "newuidmap")
    try write(map.groups, of: child, with: "newgidmap")
    let process = try Descriptor.open("/proc/\(child)/ns", [.path, .directory])
    let (users, mounts) = (
      try process.open("user", .read, lookup: .trusted), try process.open("mnt", .read, lookup: .trusted)
    )
    try joinNamespaces(users, .user)
    try joinNamespaces(mounts, .mount)
    // Joining mounts leads to their root.
    if let folder { _ = chdir(folder) }
  }

  private static func write(_ map: [IDExtent], of child: Int32, with name: String) throws(Failure) {
    guard let path = helper(name) else {
      throw Failure(
        "run machines as an ordinary user", nil, "\(name) is not installed", advice: "sudo apt-get install uidmap",
        kind: .refused)
    }
    let (process, errors) = try start(path, [name, "\(child)"] + ParentMap.arguments(map))
    let text = String(decoding: try errors.readAll(limit: 65536, subject: name), as: UTF8.self)
    guard try process.reap(wait: true) != .exited(0) else { return }
    let line = text.split(separator: "\n").last.map(String.init) ?? "it failed without a word"
    throw Failure(
      "map the ids of the user's namespace", nil, line,
      advice: "'hengectl doctor' shows what the user has", kind: .refused)
  }

  /// A function of its own, so that our copy of the program's end is closed when it returns, and reading ends.
  private static func start(
    _ path: String, _ arguments: [String]
  ) throws(Failure) -> (process: Pidfd, errors: Descriptor) {
    let errors = try SocketPair(packets: false)
    let request = ProcessRequest(.path(path), arguments: arguments, descriptors: [nil, errors.second, errors.second])
    return (try request.start().process, errors.first)
  }
}
