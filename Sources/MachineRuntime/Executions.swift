import Glibc
import Linux
import MachineStore
import Systemd

/// The commands that run inside the machine, each a transient service of its systemd.
///
/// They have a connection of their own, directly to process 1: one program less on the way than over the system bus,
/// and all changes of units come over it without being asked for. It is made by the first command and closed some time
/// after the last, so that a machine where nothing happens costs nothing.
final class Executions {
  private static let socket = "/run/systemd/private"
  /// In microseconds: how long process 1 may take to answer.
  private static let patience: UInt64 = 10_000_000
  private static let idle: UInt64 = 60_000_000
  private static let firstThatMovesLate = 256

  let machine: String
  private let leader: Pidfd
  private let programs: Programs
  private let payload: CgroupDirectory
  private let quickMoves: QuickMoves?
  /// The capabilities that nothing in the machine has.
  private let dropped: [UInt32]
  let loop: EventLoop
  private(set) var manager: Manager?
  private var matches: [BusMatch] = []
  private var joiner: Joiner?
  private var waiting: [(Result<Manager, Failure>) -> Void] = []
  private var running: [String: Execution] = [:]
  private var looks: [String: Joiner] = [:]
  private var rest: EventLoop.Source?
  private var retry: EventLoop.Source?
  private var attempts = 0
  /// Whether its systemd is new enough for services with open files of ours.
  private var takesServices = true
  /// Whether its systemd has a command born in its control group, and moved there once more when it is about to become
  /// its program. The kernel lets nobody make a group while it waits for a move, so the wait must not begin before that.
  private var movesLate = false

  init(
    machine: String, leader: Pidfd, programs: Programs, payload: CgroupDirectory, quickMoves: QuickMoves?,
    dropped: [UInt32], loop: EventLoop
  ) {
    self.quickMoves = quickMoves
    self.dropped = dropped
    self.machine = machine
    self.leader = leader
    self.programs = programs
    self.payload = payload
    self.loop = loop
  }

  /// Runs a command.
  ///
  /// - Parameter completion: called once, when it has ended.
  /// - Returns: the handle by which it can be stopped.
  func run(_ request: ExecutionRequest, _ completion: @escaping (ExecutionResult) -> Void) -> Execution {
    let digits = String(UInt64.random(in: 0 ... .max), radix: 16)
    let kind = request.isSession ? "shell" : "exec"
    let execution = Execution(
      request, unit: request.existing?.unit ?? "henge-\(kind)-\(digits).service", machine: machine, completion)
    running[execution.path] = execution
    guard takesServices || request.existing != nil else {
      join(execution, request)
      return execution
    }
    withManager { [weak self] result in
      guard let self, !execution.isEnded else { return }
      switch result {
      case .success(let manager): start(execution, manager)
      case .failure(let failure):
        // No systemd, and one that is stopped would not have refused the connection.
        if failure.errno == .noSuchFileOrDirectory || failure.errno == .connectionRefused, request.existing == nil {
          join(execution, execution.request)
        } else {
          end(execution, .lost(failure))
        }
      }
    }
    return execution
  }

  /// Runs a command without the help of the machine's init.
  private func join(_ execution: Execution, _ request: ExecutionRequest) {
    if let verdict = execution.verdict { return end(execution, verdict) }
    // Since it was asked for. Its process would be born in a group where nothing runs.
    guard !isFrozen else {
      return end(
        execution,
        .lost(Failure("run a command in", machine, "it is frozen", advice: "hengectl thaw \(machine)")))
    }
    do {
      execution.joined = try JoinedExecution(
        request, unit: execution.unit, machine: machine, leader: leader,
        program: try .sealedProgram(copying: try programs.path(of: "henge-stage")), payload: payload,
        dropped: dropped, timeout: Self.patience, on: loop
      ) { [weak self, weak execution] result in
        guard let self, let execution else { return }
        end(execution, execution.verdict ?? result)
      }
      execution.releaseStreams()
      limit(execution, request.timeout)
    } catch {
      end(execution, .lost(error as? Failure ?? Failure("run a command in", machine, "\(error)")))
    }
  }

  private func start(_ execution: Execution, _ manager: Manager) {
    if let verdict = execution.verdict { return end(execution, verdict) }
    let started: (Result<Void, BusError>) -> Void = { [weak self] result in
      let request = execution.request
      execution.releaseStreams()
      guard let self, !execution.isEnded, case .failure(let error) = result else { return }
      guard error.isOfUnknownProperty, request.existing == nil else { return end(execution, .lost(failure(error))) }
      takesServices = false
      execution.sources = []
      join(execution, request)
    }
    if execution.request.existing != nil {
      manager.startUnit(execution.unit, started)
    } else {
      manager.start(execution.request.service(named: execution.unit), started)
    }
    if !movesLate { quickenMoves() }
    limit(execution, execution.request.timeout)
    // Most commands are over by then, and cost nothing here.
    lookLater(execution, after: 1_000_000)
  }

  /// Has what a move to another control group waits for begin before process 1 comes to it. Where there is one command
  /// others follow, soon enough to find it done.
  private func quickenMoves() { quickMoves?.begin(for: 1_000_000) }

  private func limit(_ execution: Execution, _ timeout: UInt64?) {
    guard let timeout else { return }
    let verdict = ExecutionResult.refused(
      code: Failure.Kind.timedOut.rawValue,
      Failure("wait for a command in", machine, "the time was over, and it was stopped"))
    let timer = try? loop.addTimer(after: timeout) { [weak self, unowned execution] in self?.stop(execution, verdict) }
    if let timer { execution.sources.append(timer) }
  }

  /// Has a command stopped: asked to end, then killed.
  ///
  /// - Parameter verdict: what is told of its end.
  func stop(_ execution: Execution, _ verdict: ExecutionResult) {
    guard !execution.isEnded, !execution.isStopping else { return }
    execution.isStopping = true
    execution.verdict = verdict
    if let joined = execution.joined { return joined.kill() }
    if execution.request.isSession || execution.request.heldTerminal != nil {
      execution.abandoned = AbandonedSession(
        at: execution.request.heldTerminal, of: execution.mainProcess, in: payload, on: loop)
    }
    manager?.stopUnit(execution.unit) { _ in }
    // Beyond the patience of its own systemd; one that does not answer cannot keep it.
    let timer = try? loop.addTimer(after: execution.request.service(named: "").stopTimeout + 2_000_000) {
      [weak self, unowned execution] in
      guard let self else { return }
      kill(execution)
      end(execution, verdict)
    }
    if let timer { execution.sources.append(timer) }
  }

  /// Kills what is in the unit's control group, found beneath the machine's.
  private func kill(_ execution: Execution) {
    try? group(of: execution, "cgroup.kill", .write).writeAll("1".utf8, subject: "cgroup.kill")
  }

  private func group(of execution: Execution, _ file: String, _ flags: OpenFlags) throws(Failure) -> Descriptor {
    try payload.descriptor.open("\(execution.group)/\(file)", flags, lookup: .beneath)
  }

  /// Ends it, after a look at the program where that tells how it ended.
  private func settle(_ execution: Execution, _ result: ExecutionResult) {
    guard let program = execution.doubtful else { return end(execution, result) }
    // It has told all that it had to tell.
    running[execution.path] = nil
    looks[execution.path] = try? Joiner.find(
      program, leader: leader, stage: .sealedProgram(copying: programs.path(of: "henge-stage")), on: loop,
      timeout: 5_000_000
    ) { [weak self] isThere in
      self?.looks[execution.path] = nil
      self?.end(execution, isThere ? execution.ownResult : result)
    }
    if looks[execution.path] == nil { end(execution, result) }
  }

  private func end(_ execution: Execution, _ result: ExecutionResult) {
    running[execution.path] = nil
    execution.abandoned?.hangUp()
    if running.isEmpty {
      // Those who come later are not to have less patience because these needed some.
      attempts = 0
      restLater()
    }
    execution.end(result)
  }

  /// Ends every command's answer, because the machine has stopped.
  func close() {
    drop()
    joiner = nil
    looks = [:]
    waiting = []
    rest = nil
    retry = nil
    let left = running.values
    running = [:]
    for execution in left {
      execution.end(execution.verdict ?? .lost(Failure("run a command in", machine, "the machine stopped meanwhile")))
    }
  }

  private func failure(_ error: BusError) -> Failure {
    Failure(
      "run a command in", machine,
      error.isTimeout ? "its systemd did not answer in time" : "its systemd: \(error.description)",
      kind: error.isTimeout ? .timedOut : .failed)
  }
}

// The end of a command is told by systemd. A systemd that says nothing any more is found out by the control group.
extension Executions {
  private func lookLater(_ execution: Execution, after delay: UInt64) {
    let timer = try? loop.addTimer(after: delay) { [weak self, unowned execution] in self?.look(execution) }
    if let timer { execution.sources.append(timer) }
  }

  private func look(_ execution: Execution) {
    guard !execution.isEnded, execution.joined == nil else { return }
    do {
      let events = try group(of: execution, "cgroup.events", .read)
      let watch = try loop.addInotify(descriptor: events.raw, mask: UInt32(IN_MODIFY)) {
        [weak self, unowned execution] _ in
        guard let self, !isPopulated(execution) else { return }
        ask(execution)
      }
      guard isPopulated(execution) else { return ask(execution) }
      execution.sources = execution.sources.filter(\.isActive) + [watch]
    } catch {
      ask(execution)
    }
  }

  private var isFrozen: Bool { (try? payload.read("cgroup.freeze"))??.first == "1" }

  private func isPopulated(_ execution: Execution) -> Bool {
    guard let file = try? group(of: execution, "cgroup.events", .read) else { return false }
    return (try? CgroupEvents(rereading: file))?.isPopulated ?? false
  }

  /// Nothing of it seems to run: its systemd is asked what has become of it.
  private func ask(_ execution: Execution) {
    guard let manager else { return }
    manager.service(execution.path) { [weak self, weak execution] answer in
      guard let self, let execution, !execution.isEnded else { return }
      switch answer {
      case .success(let change):
        attempts = 0
        if let result = execution.takeAnew(change) { return settle(execution, result) }
        // It runs elsewhere: a session has a control group of its own.
        lookLater(execution, after: 15_000_000)
      // Stopped as a whole by the operator, and not to be ended for it.
      case .failure where isFrozen: lookLater(execution, after: 10_000_000)
      // A unit that it has forgotten has ended, and the word of that comes; not from one that never had it.
      case .failure(let error) where manager.bus.isOpen && !error.isTimeout && execution.misses < 3:
        execution.misses += 1
        lookLater(execution, after: 2_000_000)
      case .failure(let error) where manager.bus.isOpen || error.isTimeout:
        kill(execution)
        end(execution, .lost(failure(error)))
      // A new connection is on its way.
      case .failure: break
      }
    }
  }
}

// The connection to process 1.
extension Executions {
  private func withManager(_ body: @escaping (Result<Manager, Failure>) -> Void) {
    rest = nil
    // One that has not answered yet is not asked for more: see below.
    if waiting.isEmpty, let manager, manager.bus.isOpen { return body(.success(manager)) }
    waiting.append(body)
    if waiting.count == 1 { connect() }
  }

  private func connect() {
    do {
      let program = try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
      joiner = try Joiner.connect(
        to: Self.socket, leader: leader, program: program, on: loop, timeout: Self.patience
      ) { [weak self] result in
        guard let self else { return }
        joiner = nil
        switch result {
        case .success(let socket): adopt(socket)
        case .failure(let failure): connected(.failure(failure))
        }
      }
    } catch {
      connected(.failure(error as? Failure ?? Failure("reach the systemd of", machine, "\(error)")))
    }
  }

  private func adopt(_ socket: Descriptor) {
    do {
      let bus = try Bus(
        descriptor: try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the connection"),
        kind: .direct, on: loop)
      let manager = Manager(bus: bus, timeout: Self.patience)
      matches = [
        try manager.jobRemoved { [weak self] job in
          self?.running[TransientService.objectPath(of: job.unit)]?.jobEnded(job.result)
        },
        try manager.unitChanges(where: { [weak self] in self?.running[$0] != nil }) { [weak self] change in
          guard let self, let execution = running[change.path] else { return }
          // Once: a machine could tell of it again and again.
          if movesLate, execution.mainProcess == 0, (change.mainProcess ?? 0) > 0 { quickenMoves() }
          if let result = execution.take(change) { settle(execution, result) }
        },
      ]
      bus.onDisconnect = { [weak self] error in self?.disconnected(error) }
      self.manager = manager
      // Whoever does not say is as old as can be.
      manager.version { [weak self] result in
        guard let self, let version = try? result.get() else { return }
        movesLate = (Int(version.prefix(while: \.isNumber)) ?? 0) >= Self.firstThatMovesLate
      }
      // A message with descriptors in it has libsystemd wait, and us with it, until the peer has said whether it takes
      // any; a peer that never does must be waited for like any other.
      manager.ping { [weak self] result in
        guard let self else { return }
        guard case .failure(let error) = result else { return connected(.success(manager)) }
        drop()
        connected(.failure(failure(error)))
      }
    } catch {
      connected(.failure(Failure("reach the systemd of", machine, "\(error)")))
    }
  }

  private func connected(_ result: Result<Manager, Failure>) {
    let calls = waiting
    waiting = []
    for call in calls { call(result) }
  }

  private func drop() {
    // Not the last reference, from within its own callback.
    let old = (manager, matches)
    manager = nil
    matches = []
    old.0?.bus.close()
    try? loop.post { withExtendedLifetime(old) {} }
  }

  /// A systemd that executes itself anew ends all connections; what it runs goes on.
  private func disconnected(_ error: BusError) {
    drop()
    if running.values.contains(where: { $0.joined == nil }) { reconnect(after: failure(error)) }
  }

  /// Between its end and its new beginning nobody listens: at once, then after 0.1 s, then twice as long each time. One
  /// that lets us in and has no answer is given up like one that does not.
  private func reconnect(after reason: Failure) {
    guard attempts < 6 else {
      attempts = 0
      for execution in running.values where execution.joined == nil {
        kill(execution)
        end(execution, .lost(reason))
      }
      return
    }
    let pause: UInt64 = attempts == 0 ? 1 : 50_000 << UInt64(attempts)
    attempts += 1
    retry = try? loop.addTimer(after: pause) { [weak self] in
      self?.withManager { [weak self] result in
        guard let self else { return }
        switch result {
        case .success: for execution in running.values where execution.joined == nil { ask(execution) }
        case .failure(let failure): reconnect(after: failure)
        }
      }
    }
  }

  private func restLater() {
    rest = try? loop.addTimer(after: Self.idle, accuracy: 5_000_000) { [weak self] in self?.drop() }
  }
}
