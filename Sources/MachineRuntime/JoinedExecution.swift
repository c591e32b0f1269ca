import Glibc
import Linux
import StageProtocol
import Systemd

/// A command in a machine whose init starts none for us: a joined process becomes it, in a control group of its own
/// beneath the machine's, so that all of it can be ended.
final class JoinedExecution {
  private let process: Pidfd
  private let channel: Descriptor
  private let group: CgroupDirectory
  private let loop: EventLoop
  private var sources: [EventLoop.Source] = []
  private var failure: StageFailure?
  private var completion: ((ExecutionResult) -> Void)?

  /// - Parameters:
  ///   - dropped: the capabilities that nothing in the machine has.
  ///   - timeout: how long it may take to come to its program, in microseconds.
  ///   - completion: called once.
  init(
    _ request: ExecutionRequest, unit: String, machine: String, leader: Pidfd, program: Descriptor,
    payload: CgroupDirectory, dropped: [UInt32], timeout: UInt64, on loop: EventLoop,
    _ completion: @escaping (ExecutionResult) -> Void
  ) throws {
    let command = JoinedCommand(
      arguments: request.command, environment: request.environment, user: request.user ?? "root",
      directory: request.directory ?? "", hasTerminal: request.terminal != nil, isSession: request.isSession,
      dropped: dropped)
    let pair = try SocketPair(packets: true)
    channel = pair.first
    try channel.setNonBlocking()
    self.loop = loop
    group = try payload.child(unit)
    var streams = request.streams
    while streams.count < 3 { streams.append(nil) }
    var spawn = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "join"],
      descriptors: streams + [
        pair.second, try .sealedBytes(JoinRequest.command(command).encoded, name: "request"), leader.descriptor,
      ])
    spawn.parentDeathSignal = SIGKILL
    spawn.cgroup = group.descriptor
    do {
      process = try spawn.start().process
    } catch {
      try? CgroupDirectory.remove(group.path)
      throw error
    }
    self.completion = completion
    let subject = request.command.first ?? "a shell"
    sources = [
      try loop.addChild(pidfd: process.descriptor.raw) { [unowned self] in ended(subject, machine) },
      try loop.addIO(channel.raw, .readable) { [unowned self] _ in receive() },
      // Only until it is executed.
      try loop.addTimer(after: timeout) { [unowned self] in
        failure = StageFailure(
          operation: "start", subject: subject, reason: "the machine did not come to start it in time", errno: 0,
          code: Failure.Kind.timedOut.rawValue)
        kill()
      },
    ]
  }

  deinit { kill() }

  /// Ends all of it.
  func kill() {
    try? group.kill()
  }

  private func receive() {
    if let (bytes, _) = (try? channel.receive()) ?? nil {
      if case .failed(let stage)? = try? StageMessage(decoding: bytes) { failure = failure ?? stage }
    } else if sources.count > 1 {
      // Executed, or ended: either way the rest is told by its end.
      sources.removeLast(2)
    }
  }

  private func ended(_ subject: String, _ machine: String) {
    while sources.count > 1, let (bytes, _) = (try? channel.receive()) ?? nil {
      if case .failed(let stage)? = try? StageMessage(decoding: bytes) { failure = failure ?? stage }
    }
    let exit = (try? process.reap()) ?? nil
    sources = []
    // What it left running goes with it, as with a service.
    kill()
    clear(result(exit, subject, machine), attempt: 1)
  }

  /// A group is busy until the last process in it is reaped, which is the machine's doing.
  private func clear(_ result: ExecutionResult, attempt: UInt64) {
    if attempt < 20, (try? CgroupDirectory.remove(group.path)) == nil,
      let timer = try? loop.addTimer(after: attempt * 10_000, { [unowned self] in clear(result, attempt: attempt + 1) })
    {
      sources = [timer]
      return
    }
    let completion = completion
    self.completion = nil
    completion?(result)
  }

  private func result(_ exit: ProcessExit?, _ subject: String, _ machine: String) -> ExecutionResult {
    if let failure {
      let told = Failure("run '\(printable(subject, limit: 200))' in", machine, printable(failure.reason, limit: 200))
      if failure.code == Failure.Kind.timedOut.rawValue { return .refused(code: 124, told) }
      if case .exited(let code)? = exit, [126, 127].contains(code) {
        return .refused(code: code, told)
      }
      return .lost(told)
    }
    switch exit {
    case .exited(let code): return .exited(code)
    case .signalled(let number): return .signalled(number)
    case nil: return .lost(Failure("run a command in", machine, "it is not known how it ended"))
    }
  }
}
