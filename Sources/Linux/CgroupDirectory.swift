import CLinux
import Glibc
import SystemPackage

/// A control group of version 2, held by its folder.
public struct CgroupDirectory: Sendable {
  /// The folder.
  public let descriptor: Descriptor
  /// Where it is, for messages and records.
  public let path: String

  /// Opens a group that is there.
  ///
  /// - Throws: `Failure`, also when the folder is on another file system.
  public init(opening path: String) throws(Failure) {
    descriptor = try Descriptor.open(path, [.directory, .noFollow])
    self.path = path
    guard clinux_filesystem(descriptor.raw) == clinux_cgroup2_magic else {
      throw Failure("use the control group", path, "it is not on a cgroup2 file system")
    }
  }

  /// Makes a group in this one, or opens the one that is there.
  public func child(_ name: String) throws(Failure) -> CgroupDirectory {
    if mkdirat(descriptor.raw, name, 0o755) < 0, Glibc.errno != EEXIST {
      throw Failure("make the control group", "\(path)/\(name)", errno: Errno(rawValue: Glibc.errno))
    }
    return try CgroupDirectory(opening: "\(path)/\(name)")
  }

  /// Writes one of the group's files.
  public func write(_ file: String, _ value: String) throws(Failure) {
    do {
      try descriptor.open(file, .write, lookup: .beneath).writeAll(value.utf8, subject: file)
    } catch {
      var failure = error
      failure.operation = "write"
      failure.subject = "\(path)/\(file)"
      throw failure
    }
  }

  /// Reads one of the group's files; nil when the group has none of that name.
  public func read(_ file: String) throws(Failure) -> String? {
    try descriptor.readFile(file).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Gives the folder and the files that a delegate needs to an id, and nothing else: its limits stay ours.
  ///
  /// - Parameters:
  ///   - id: user and group on this host.
  ///   - files: names, as of `/sys/kernel/cgroup/delegate`; one that the group has not is passed over.
  public func delegate(to id: UInt32, files: [String]) throws(Failure) {
    for file in files where fchownat(descriptor.raw, file, id, id, clinux_at_symlink_nofollow) < 0 {
      let number = Glibc.errno
      if number != ENOENT { throw Failure("delegate", "\(path)/\(file)", errno: Errno(rawValue: number)) }
    }
    try check(fchown(descriptor.raw, id, id), "delegate", path)
  }

  /// Kills every process in the group and below, those included that are just being born. The file is `cgroup.kill`.
  public func kill() throws(Failure) {
    try write("cgroup.kill", "1")
  }

  /// Whether a process is in the group or below.
  public func isPopulated() throws(Failure) -> Bool {
    guard let events = try read("cgroup.events") else { return false }
    return CgroupEvents(events).isPopulated
  }

  /// Waits until no process is left. The kernel tells it by `POLLPRI` on `cgroup.events`.
  ///
  /// - Parameter timeout: in milliseconds.
  /// - Returns: whether it is empty.
  public func waitUntilEmpty(timeout: Int32) throws(Failure) -> Bool {
    let events = try descriptor.open("cgroup.events", .read, lookup: .beneath)
    let deadline = clinux_monotonic_microseconds() + UInt64(timeout) * 1000
    while try isPopulated() {
      let now = clinux_monotonic_microseconds()
      if now >= deadline { return false }
      // Reading it arms the notification for the next change.
      if try !CgroupEvents(rereading: events).isPopulated { return true }
      var poll = pollfd(fd: events.raw, events: Int16(POLLPRI), revents: 0)
      _ = Glibc.poll(&poll, 1, Int32((deadline - now) / 1000) + 1)
    }
    return true
  }

  /// Removes the group and those that were made in it, the lowest first. Processes must have ended.
  ///
  /// - Parameter path: where it is; one that is not there is no error.
  public static func remove(_ path: String) throws(Failure) {
    let group: CgroupDirectory
    do {
      group = try CgroupDirectory(opening: path)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return }
      throw error
    }
    try removeChildren(of: group.descriptor, path: path, depth: 0)
    if rmdir(path) < 0, Glibc.errno != ENOENT {
      throw Failure("remove the control group", path, errno: Errno(rawValue: Glibc.errno))
    }
  }

  private static func removeChildren(of folder: Descriptor, path: String, depth: Int) throws(Failure) {
    guard depth < 256 else { throw Failure("remove the control group", path, "it is too deep") }
    for name in try folder.names() where try folder.status(of: name)?.kind == .directory {
      let child = try folder.open(name, [.directory, .noFollow], lookup: .beneath)
      try removeChildren(of: child, path: "\(path)/\(name)", depth: depth + 1)
      if unlinkat(folder.raw, name, AT_REMOVEDIR) < 0, Glibc.errno != ENOENT {
        throw Failure("remove the control group", "\(path)/\(name)", errno: Errno(rawValue: Glibc.errno))
      }
    }
  }
}

extension CgroupDirectory {
  /// How many processes are held open at a time.
  private static let most = 256

  /// Sends a signal to every process in the group and below, and to no other.
  ///
  /// The number of a process that has ended may be another's by now, one of the host's: so each is held by a descriptor
  /// first, and then still has to be in the group. The corresponding C functions are `pidfd_open` and
  /// `pidfd_send_signal`.
  ///
  /// - Parameters:
  ///   - number: the signal.
  ///   - isWanted: asked for each process by its number; those that it refuses get none.
  /// - Returns: how many got it.
  @discardableResult
  public func signal(_ number: Int32, where isWanted: (Int32) -> Bool = { _ in true }) throws(Failure) -> Int {
    try signal(number, where: isWanted, meanwhile: {})
  }

  /// - Parameter meanwhile: what happens between the two looks at who is in a group.
  package func signal(_ number: Int32, where isWanted: (Int32) -> Bool, meanwhile: () -> Void) throws(Failure) -> Int {
    try Self.signal(number, descriptor, depth: 0, isWanted, meanwhile)
  }

  private static func signal(
    _ number: Int32, _ folder: Descriptor, depth: Int, _ isWanted: (Int32) -> Bool, _ meanwhile: () -> Void
  ) throws(Failure) -> Int {
    guard depth < 256 else { return 0 }
    var count = 0
    // Below, nobody says that it can be read: a threaded group cannot, whose processes are listed above it.
    var rest = depth == 0 ? try processes(in: folder)[...] : ((try? processes(in: folder)) ?? [])[...]
    while !rest.isEmpty {
      let held = rest.prefix(most).compactMap { id in (try? Pidfd(opening: id)).map { (id: id, process: $0) } }
      rest = rest.dropFirst(most)
      meanwhile()
      let members = Set((try? processes(in: folder)) ?? [])
      for (id, process) in held where members.contains(id) && isWanted(id) {
        if (try? process.signal(number)) == true { count += 1 }
      }
    }
    for name in try folder.names() where try folder.status(of: name)?.kind == .directory {
      // The machine may remove a group while it is looked at.
      guard let child = try? folder.open(name, [.directory, .noFollow], lookup: .beneath) else { continue }
      count += try signal(number, child, depth: depth + 1, isWanted, meanwhile)
    }
    return count
  }

  /// Looks for a process in the group and below.
  ///
  /// - Parameter isWanted: asked for each process, by its number as this process sees it, until it takes one.
  public func process(where isWanted: (Int32) -> Bool) -> Int32? {
    var found: Int32?
    _ = try? signal(0) { id in
      if found == nil, isWanted(id) { found = id }
      return false
    }
    return found
  }

  private static func processes(in folder: Descriptor) throws(Failure) -> [Int32] {
    let text = try folder.readFile("cgroup.procs", limit: 16 << 20).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").compactMap { Int32($0) }
  }
}
