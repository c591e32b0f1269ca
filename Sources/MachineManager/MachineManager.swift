import CLinux
import Glibc
import Images
import Linux
import MachineSpec
import MachineStore
import Varlink

/// All that can be done with machines and images, for hengectl and for programs of others.
///
/// There is no daemon behind it: what is on disk is read and written here, and what a running machine is asked goes to
/// that machine's own supervisor.
public struct MachineManager: Sendable {
  /// The machines on disk.
  public let store: MachineStore
  /// The programs that belong to this one.
  public let programs: Programs

  /// A manager of the machines in these places.
  ///
  /// - Parameter places: where things are on disk.
  /// - Throws: `Failure` when the program's own folder cannot be found.
  public init(_ places: Places) throws(Failure) {
    store = MachineStore(places)
    programs = try Programs()
    store.finishRenames()
  }

  /// A machine in a list.
  public struct Entry: Sendable {
    /// Its name.
    public var name: MachineName
    /// Its record; nil when that is damaged.
    public var record: MachineRecord?
    /// What is wrong with its record or with what is left of it, in one line.
    public var error: String?
    /// `stopped`, or what its supervisor says: `starting`, `booting`, `running`, `degraded`, `frozen`, `stopping`,
    /// `rebooting`, `restarting`; `unknown` when what is left of it cannot be cleared away.
    public var state: String
    /// The leader's process id, when it runs.
    public var leader: Int32?
    /// When it was started, in seconds since 1970.
    public var started: UInt64?
  }

  /// All machines, in the order of their names. A machine that does not answer is listed all the same.
  public func list() throws(Failure) -> [Entry] {
    var entries: [Entry] = []
    for name in try store.names() {
      var entry = Entry(name: name, record: nil, state: "stopped")
      do throws(Failure) {
        entry.record = try store.record(of: name)
      } catch {
        // One that was removed just now is none.
        if error.kind == .notFound { continue }
        entry.error = error.description
      }
      do throws(Failure) {
        if try store.isRunning(name) {
          let state = try? state(of: name)
          entry.state = state?["state"]?.stringValue ?? "starting"
          entry.leader = state?["leader"]?.intValue.flatMap { Int32(exactly: $0) }
          entry.started = state?["started"]?.intValue.flatMap { UInt64(exactly: $0) }
        } else if !store.exists(name) {
          // An ephemeral one whose supervisor was killed: it went as it was looked at.
          continue
        }
      } catch {
        // What is wrong with one machine must not hide the others; its own `status` says what it is.
        entry.state = "unknown"
        entry.error = entry.error ?? error.description
      }
      entries.append(entry)
    }
    return entries
  }

  /// What the supervisor of a running machine knows; nil when the machine is stopped.
  public func state(of name: MachineName) throws -> JSON? {
    guard let client = try connect(name) else { return nil }
    do {
      return try client.call("io.henge.Machine.GetState", timeout: 5000)["state"]
    } catch {
      // Its supervisor may have ended between the two: that is no failure, but the answer.
      if case VarlinkFailure.hangUp = error, try !store.isRunning(name) { return nil }
      throw explained(error, name)
    }
  }

  /// Makes a machine.
  ///
  /// - Parameters:
  ///   - name: its name.
  ///   - source: what it is made from.
  ///   - settings: assignments of the spec, kept as `NAME.machine` unless the operator has written one.
  ///   - isEphemeral: whether it goes away when it stops.
  /// - Returns: its record, and warnings about the spec.
  public func create(
    _ name: MachineName, from source: MachineSource, settings: [String] = [], isEphemeral: Bool = false
  ) throws(Failure) -> (record: MachineRecord, warnings: [String]) {
    if store.hasSpec(name) {
      let (spec, diagnostics) = try store.spec(of: name, overrides: settings)
      if !settings.isEmpty {
        throw Failure(
          "keep the settings of", name.description, "there is a spec at \(store.places.configuration)/\(name).machine",
          advice: "write them there", kind: .usage)
      }
      return (
        try store.create(name, from: source, spec: spec, specText: nil, isEphemeral: isEphemeral),
        diagnostics.map(\.description)
      )
    }
    let (spec, diagnostics) = try MachineStore.checked(Spec.parse(files: [], commandLine: settings))
    let record = try store.create(
      name, from: source, spec: spec, specText: settings.isEmpty ? nil : spec.text, isEphemeral: isEphemeral)
    return (record, diagnostics.map(\.description))
  }

  /// Removes a stopped machine. A directory used in place stays, with the ids that it came with.
  public func remove(_ name: MachineName) throws(Failure) {
    if let record = try? store.record(of: name), case .inPlace(let path) = record.root, record.shift != .none {
      try giveBack(path, record)
    }
    try store.remove(name)
    if isHostsService(name) { try setEnabled([name], false) }
  }

  /// Gives a stopped machine another name, under which it starts with the host if it did before.
  public func rename(_ name: MachineName, to new: MachineName) throws(Failure) {
    let wasEnabled = isHostsService(name)
    try store.rename(name, to: new)
    guard wasEnabled else { return }
    try setEnabled([name], false)
    try setEnabled([new], true)
  }

  private func giveBack(_ path: String, _ record: MachineRecord) throws(Failure) {
    guard let lock = try store.lock(record.name) else {
      throw Failure("remove", record.name.description, "it is running", advice: "hengectl poweroff \(record.name)")
    }
    // A directory that is gone has nothing to be given back, and must not keep the machine from going.
    if access(path, F_OK) < 0, errno == ENOENT { return withExtendedLifetime(lock) {} }
    var record = record
    record.shift = .begun
    try store.update(record)
    try runImport(["shift", path, "\(record.range.base)", "0", store.folder(of: record.name), "\(record.range.count)"])
    record.shift = .none
    try store.update(record)
    withExtendedLifetime(lock) {}
  }

  /// Runs the program that reads archives and walks trees; it has the terminal and says itself what goes wrong.
  ///
  /// - Throws: `Failure` with its exit code.
  public func runImport(_ arguments: [String]) throws(Failure) {
    var request = ProcessRequest(
      .path(try programs.path(of: "henge-import")), arguments: ["henge-import"] + arguments,
      environment: store.places.environment + ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    request.descriptors = try (0...2).map { (number: Int32) throws(Failure) in
      Descriptor(adopting: try check(fcntl(number, F_DUPFD_CLOEXEC, 3), "pass on", "standard descriptors"))
    }
    request.parentDeathSignal = SIGTERM
    switch try request.start().process.reap(wait: true) {
    case .exited(0): return
    // It has said what it was.
    case .exited(let status): throw Failure("", nil, "", kind: Failure.Kind(rawValue: status) ?? .failed)
    case .signalled(let number): throw Failure("run", "henge-import", "signal \(number) ended it")
    case nil: throw Failure("run", "henge-import", "it is gone")
    }
  }
}
