import CLinux
import Glibc
import Linux
import MachinePlan
import MachineSpec
import MachineStore
import Network
import StageProtocol
import Systemd

/// From the request to process 1.
extension Supervisor {
  /// Starts the machine; the answer comes to the observers.
  ///
  /// - Parameter overrides: assignments that count more than the machine's spec, for this start.
  /// - Throws: `Failure` when it cannot be tried; everything is taken back then.
  func start(overrides: [String]) throws {
    guard case .idle = phase else { throw Failure("start", name.description, "it is running") }
    mark("requested")
    phase = .starting
    do {
      let group = try prepare(overrides: overrides)
      cgroups.claim(group) { [unowned self] result in claimed(result) }
    } catch {
      throw finish(error as? Failure ?? Failure("start", name.description, "\(error)"))
        ?? Failure("start", name.description, "\(error)")
    }
  }

  /// Whoever keeps the host's control groups has answered: the rest of the way to process 1.
  private func claimed(_ result: Result<CgroupPlan, Failure>) {
    // It may have been told to stop meanwhile.
    guard case .starting = phase else { return }
    do {
      try makeHost(try result.get())
      try startStage()
    } catch {
      _ = finish(error as? Failure ?? Failure("start", name.description, "\(error)"))
    }
  }

  private func prepare(overrides: [String]) throws -> CgroupPlan {
    guard let lock = try store.lock(name) else {
      throw store.busy(name, "start", "'hengectl status \(name)' shows it")
    }
    self.lock = lock
    tellPhase()
    try store.recover(name, lock: lock)
    let record = try store.record(of: name)
    self.record = record
    let (spec, diagnostics) = try store.spec(of: name, overrides: overrides)
    self.spec = spec
    var plan = try makePlan(record: record, spec: spec)
    plan.warnings = diagnostics.map(\.description) + plan.warnings
    self.plan = plan
    mark("planned")

    undo.push { [store, name] in try? store.removeScratch(of: name) }
    undo.push { [store, name] in try? store.removeRuntimeFolder(of: name) }
    let folder = try store.makeRuntimeFolder(of: name)
    self.folder = folder
    let log = try folder.open(
      "supervisor.log", [.write, .create, .append, .noFollow], lookup: .beneath, mode: 0o600)
    try check(dup2(log.raw, 2), "open", "supervisor.log")
    state = MachineState(
      bootID: try currentBootID(), supervisor: getpid(), started: clinux_unix_seconds())
    try saveState()
    console = try Console(in: try .open(store.folder(of: name), [.directory, .noFollow]), on: loop)
    try control?.listen(in: folder)
    guard let group = plan.group else { throw Failure("carry out", "the plan", "it lacks a step") }
    chooseCgroups(for: group)
    return group
  }

  private func makeHost(_ group: CgroupPlan) throws {
    guard var plan else { return }
    plan.group = group
    self.plan = plan
    mark("claimed")
    host = try HostPreparation(
      plan.hostSteps, cgroups: cgroups, undo: undo,
      note: { [unowned self] path throws(Failure) in
        state?.cgroup = path
        try saveState()
      },
      shift: { [unowned self] path, from, to, count throws(Failure) in
        try shiftOwnership(path, from: from, to: to, count: count)
      })
    try prepareNetwork(plan.network)
    mark("prepared")
  }

  /// Makes the plan that a start would carry out.
  public func makePlan(overrides: [String]) throws -> (plan: MachinePlan, warnings: [String]) {
    let (spec, diagnostics) = try store.spec(of: name, overrides: overrides)
    let plan = try makePlan(record: try store.record(of: name), spec: spec)
    return (plan, diagnostics.map(\.description) + plan.warnings)
  }

  private func makePlan(record: MachineRecord, spec: Spec) throws -> MachinePlan {
    let folder = store.folder(of: name)
    let root: MachineRoot
    var files: String?
    switch record.root {
    case .layers(let image, let layers):
      // The record lists the lowest layer first, the kernel wants the top one first. That they can be mapped was found
      // out when the machine was made this way.
      let paths = layers.reversed().map { store.layer($0, of: image) }
      root = .layers(paths, upper: "\(folder)/upper", work: "\(folder)/work")
    case .copy:
      root = .tree("\(folder)/root", ownership: .init(record.shift))
      files = "\(folder)/root"
    case .inPlace(let path):
      root = .tree(path, ownership: .init(record.shift))
      files = path
    }
    var holder: Descriptor?
    if let files {
      do {
        holder = try Descriptor.open(files, [.directory, .noFollow])
      } catch {
        throw Failure("start", name.description, "its files at \(files) cannot be opened: \(error.reason)")
      }
    }
    var machine = MachineFacts(
      name: name, uuid: spec.machine.uuid ?? record.uuid, rootID: record.range.base, idCount: record.range.count,
      mountPoint: store.runtimeFolder(of: name), root: root)
    for credential in spec.exec.loadCredentials {
      let path = credential.path.description
      do {
        let value = try Descriptor.open(path, [.read, .nonBlocking]).readAll(limit: 1 << 20, subject: path)
        machine.loadedCredentials.append((credential.name.description, value))
      } catch {
        guard spec.exec.setCredentials.contains(where: { $0.name == credential.name }) else {
          throw Failure("load the credential", credential.name.description, "\(path): \(error.reason)")
        }
      }
    }
    machine.scratch = store.scratchFolder(of: name)
    machine.machineID = machineID(of: machine)
    var host = try HostFacts.probe(for: holder)
    host.capacity = HostCapacity(for: spec.resources, manager: host.manager, keeper: host.cgroup.keeper)
    hostManager = host.manager
    host.hasMachinesJournal = host.keepsJournal && JournalFolder.isThere(machine.machineID, owner: machine.rootID)
    do {
      var plan = try MachinePlan(spec: spec, host: host, machine: machine)
      plan.warnings += contradictions(spec, record)
      return plan
    } catch {
      throw Failure(
        "start", name.description, error.reason, advice: error.advice, kind: error.isHostsFault ? .refused : .usage)
    }
  }

  /// The stage in a sealed copy, which is kept until the machine is up: the way in to its bus takes it as well.
  func stageProgram() throws(Failure) -> Descriptor {
    if let sealedStage { return sealedStage }
    if let offered = offeredStage {
      offeredStage = nil
      // The end of the stream is a matter of a millisecond or two, less than a copy of our own would take. A starter
      // that was stopped meanwhile must not stop the start as well.
      var ready = pollfd(fd: offered.ready.raw, events: Int16(POLLIN), revents: 0)
      _ = poll(&ready, 1, 1000)
      if offered.copy.isSealed {
        sealedStage = offered.copy
        return offered.copy
      }
    }
    let copy = try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
    sealedStage = copy
    return copy
  }

  /// What a machine is made from is settled when it is made; a spec that says otherwise later is not followed.
  private func contradictions(_ spec: Spec, _ record: MachineRecord) -> [String] {
    var warnings: [String] = []
    if let image = spec.files.image?.description, image != record.image {
      warnings.append("Image=\(image) is not followed: the machine was made from \(record.image ?? "a directory")")
    }
    if let directory = spec.files.directory?.description, record.root != .inPlace(directory) {
      warnings.append("Directory=\(directory) is not followed: the machine was not made of it")
    }
    if let ids = spec.machine.ids, ids.count != record.range.count {
      warnings.append("IDs=\(ids) is not followed: the machine was made with \(record.range.count) ids")
    }
    return warnings
  }

  /// An empty machine-id is one that systemd takes from the container's UUID. Read beneath the root, in the order in
  /// which an overlay would find it.
  private func machineID(of machine: MachineFacts) -> String {
    let folders =
      switch machine.root {
      case .layers(let layers, let upper, _): [upper] + layers
      case .tree(let path, _): [path]
      }
    for folder in folders {
      guard let root = try? Descriptor.open(folder, [.path, .directory, .noFollow]),
        let file = try? root.open("/etc/machine-id", [.read, .nonBlocking], lookup: .inRoot),
        let text = try? file.readHead(33, subject: "machine-id")
      else { continue }
      let id = String(decoding: text.prefix(32), as: UTF8.self)
      return (try? MachineUUID(id))?.plain ?? machine.uuid.plain
    }
    return machine.uuid.plain
  }

  func saveState() throws(Failure) {
    guard let state, let folder else { return }
    try folder.replaceFile("state.json", with: state.json.compact.utf8, durable: false)
  }

  /// Starts the stage; also for the same machine's next start after a reboot.
  func startStage() throws {
    guard let plan, let host, let folder else { throw Failure("start", name.description, "it is not prepared") }
    let program = try stageProgram()
    let errors = try folder.open(
      "stage.log", [.write, .create, .append, .noFollow], lookup: .beneath, mode: 0o600)
    stage = try StageRun(
      plan.stage, program: program, userNamespace: host.userNamespace, cgroup: host.scope.payload, log: errors,
      sockets: network?.unitSockets ?? [], on: loop
    ) { [unowned self] outcome in stageEnded(outcome) }
    mark("stage")
    // Moving takes some milliseconds, which is done beside the stage's work here. An error shows again in `adopt`.
    try? cgroups.enter(host.scope)
  }

  private func stageEnded(_ outcome: StageRun.Outcome) {
    guard let stage else { return }
    self.stage = nil
    stage.reap()
    switch outcome {
    case .failed(let failure):
      if let leader = stage.leader { _ = try? leader.process.reap(wait: true) }
      _ = finish(failure)
    case .executed(let time):
      mark("executed", at: time)
      do {
        try adopt(stage)
      } catch {
        // A process 1 that is on its way out already has no namespaces any more; its end, which tells what happened,
        // comes next.
        if let leader, !runSources.isEmpty, isExiting(leader.id) { return }
        _ = finish(Failure("supervise", name.description, "\(error)"))
      }
    }
  }

  /// Takes over what the stage handed out: the machine runs from here on.
  private func adopt(_ stage: StageRun) throws {
    guard let leader = stage.leader else { return }
    self.leader = leader
    state?.leader = leader.id
    try saveState()
    runSources.append(
      try loop.addChild(pidfd: leader.process.descriptor.raw) { [unowned self] in leaderEnded() })
    terminals = stage.terminals
    if let controller = stage.console { try console?.attach(controller) }
    if let socket = stage.notifySocket {
      let copy = try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the notify socket")
      let notify = try NotifySocket(descriptor: copy, sender: leader.id)
      self.notify = notify
      // For as long as the machine lives: ten datagrams not fetched, and process 1 itself stands still.
      runSources.append(
        try loop.addIO(notify.descriptor, .readable) { [unowned self] _ in
          for received in (try? notify.receive()) ?? [] { take(received.message) }
        })
    }
    enter(.booting)
    try startNetwork(leader: leader.id, connections: stage.connections)
    if wantsProgress, let systemd = stage.systemdFolder, let sealedStage {
      progress = try BootProgress(watching: systemd, leader: leader.process, program: sealedStage, on: loop) {
        [unowned self] unit in
        activeUnits += 1
        tellProgress(unit: unit)
      }
    }
    watchMemory()
    startAutoScale()
    if let host {
      try cgroups.enter(host.scope)
      quickMoves = QuickMoves(in: host.scope.supervisor, on: loop)
      // A machine that boots for longer waits for other things than moves.
      quickMoves?.go(for: 5_000_000)
    }
    register(leader.id)
  }
}

extension TreeOwnership {
  init(_ shift: MachineRecord.Shift) {
    self =
      switch shift {
      case .none: .unshifted
      case .begun: .between
      case .done: .shifted
      }
  }
}
