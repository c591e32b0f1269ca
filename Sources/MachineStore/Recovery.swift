import CLinux
import Glibc
import Images
import Linux
import MachineSpec
import SystemPackage
import Varlink

/// What is left of a machine whose supervisor is gone, and how it goes away.
extension MachineStore {
  /// The folder of a running machine.
  public func runtimeFolder(of name: MachineName) -> String { "\(places.runtime)/machines/\(name)" }

  /// Opens the folder of a running machine, made where it is missing.
  public func makeRuntimeFolder(of name: MachineName) throws(Failure) -> Descriptor {
    try Descriptor.folder(runtimeFolder(of: name))
  }

  /// What a running machine's supervisor noted; nil when there is nothing, or nothing that can be read.
  public func state(of name: MachineName) -> MachineState? {
    guard let folder = try? Descriptor.open(runtimeFolder(of: name), [.directory, .noFollow]),
      let bytes = (try? folder.readFile("state.json")) ?? nil, let json = try? JSON(parsing: bytes)
    else { return nil }
    return MachineState(json: json)
  }

  /// The processes that were noted as supervisors of machines; whether they still are, nobody has looked.
  public func supervisors() -> [(name: MachineName, process: Int32)] {
    guard let folder = try? Descriptor.open("\(places.runtime)/machines", .directory),
      let names = try? folder.names(), let boot = try? currentBootID()
    else { return [] }
    return names.sorted().compactMap { text in
      guard let name = try? MachineName(text), let state = state(of: name), state.bootID == boot else { return nil }
      return (name, state.supervisor)
    }
  }

  /// Ends and removes what a killed supervisor left. Only for the holder of the lock, which proves that it is gone.
  ///
  /// - Throws: `Failure` when processes do not end within 5 s or something cannot be removed.
  public func recover(_ name: MachineName, lock: MachineLock) throws(Failure) {
    try removeScratch(of: name)
    let path = runtimeFolder(of: name)
    guard access(path, F_OK) == 0 else { return }
    // State of another boot speaks of processes and groups that are not ours.
    // Nor is a group of another name, should the file be damaged: all in it would be killed.
    if let state = state(of: name), state.bootID == (try? currentBootID()) {
      if let cgroup = state.cgroup, isGroup(cgroup, of: name) { try removeGroup(cgroup) }
      // After the group: as long as something runs in there, the filter stands.
      if let filter = state.filter, isFilter(filter, of: name) { try removeFilter(filter) }
    }
    try removeRuntimeFolder(of: name)
    if let record = try? record(of: name), record.isEphemeral { try discard(name, lock: lock) }
  }

  /// Whether a control group is called as the planner calls those of a machine: by its name and the start of its id.
  private func isGroup(_ path: String, of name: MachineName) -> Bool {
    let parts = path.split(separator: "/")
    let prefix = "henge-\(name)-"
    guard let last = parts.last, !parts.contains("..") else { return false }
    if last == "henge@\(name).service" { return true }
    guard last.hasPrefix(prefix) else { return false }
    var id = last.dropFirst(prefix.utf8.count)
    if id.hasSuffix(".scope") { id = id.dropLast(6) }
    return id.utf8.count == 8 && id.allSatisfy(\.isHexDigit)
  }

  /// Whether a table is called as the planner calls those of a machine: by its name and the number of its ids.
  private func isFilter(_ table: String, of name: MachineName) -> Bool {
    let prefix = "he-\(name.description.prefix(7))-"
    guard table.hasPrefix(prefix) else { return false }
    let digits = table.dropFirst(prefix.utf8.count)
    return digits.utf8.count == 4 && digits.allSatisfy(\.isHexDigit)
  }

  private func removeFilter(_ table: String) throws(Failure) {
    // Gone with the machine's network namespace, unless somebody from outside is still in that.
    let interface = clinux_interface_index(table)
    if interface > 0 { _ = clinux_interface_remove(interface) }
    try PacketFilter.remove(table: table)
  }

  private func removeGroup(_ path: String) throws(Failure) {
    let group: CgroupDirectory
    do {
      group = try CgroupDirectory(opening: path)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return }
      throw error
    }
    // A service that was started again is in the group of the one before: what was left of that is the machine's part.
    if isOwn(path) { return try removeGroup("\(path)/payload") }
    do throws(Failure) {
      try group.kill()
      guard try group.waitUntilEmpty(timeout: 5000) else {
        throw Failure("end the processes in", path, "they did not end within 5 s")
      }
      try CgroupDirectory.remove(path)
    } catch {
      // A systemd that made the unit removes its groups as well.
      guard error.errno == .noSuchFileOrDirectory || error.errno?.rawValue == ENODEV else { throw error }
    }
  }

  /// Whether this process is in a control group, or below it.
  private func isOwn(_ path: String) -> Bool {
    let file = "/proc/self/cgroup"
    guard let bytes = try? Descriptor.open(file).readAll(subject: file), let unit = path.split(separator: "/").last
    else { return false }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    guard let own = lines.first(where: { $0.hasPrefix("0::/") }) else { return false }
    return own.dropFirst(3).split(separator: "/").contains(unit)
  }

  /// Where an ephemeral machine keeps what it writes.
  public func scratchFolder(of name: MachineName) -> String { "\(folder(of: name))/scratch" }

  /// Throws away what an ephemeral machine has written.
  public func removeScratch(of name: MachineName) throws(Failure) {
    let path = scratchFolder(of: name)
    guard access(path, F_OK) == 0 else { return }
    do {
      let folder = try open(name)
      try TreeRemove.remove("scratch", in: FileDescriptor(rawValue: folder.raw), path: path)
      withExtendedLifetime(folder) {}
    } catch let error as Failure {
      throw error
    } catch {
      throw Failure("remove", path, "\(error)")
    }
  }

  /// Removes the folder of a machine that runs no more.
  public func removeRuntimeFolder(of name: MachineName) throws(Failure) {
    let machines: Descriptor
    do {
      machines = try Descriptor.open("\(places.runtime)/machines", .directory)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return }
      throw error
    }
    do {
      try TreeRemove.remove(name.description, in: FileDescriptor(rawValue: machines.raw), path: runtimeFolder(of: name))
    } catch let error as Failure {
      if error.errno != .noSuchFileOrDirectory { throw error }
    } catch {
      throw Failure("remove", runtimeFolder(of: name), "\(error)")
    }
  }

  /// Whether a machine is being run; what a killed supervisor left is cleared away first.
  ///
  /// - Returns: false when it is stopped.
  public func isRunning(_ name: MachineName) throws(Failure) -> Bool {
    // A machine without a folder there has not been started since it last stopped: no lock is touched for it, so
    // looking never stands in the way of a start.
    guard access(runtimeFolder(of: name), F_OK) == 0 else { return false }
    guard let lock = try lock(name) else { return true }
    try recover(name, lock: lock)
    return false
  }
}
