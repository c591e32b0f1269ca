import CLinux
import Glibc
import Linux
import MachinePlan
import StageProtocol
import Systemd

/// One run of the stage, from its start to the exec of process 1 or a failure.
final class StageRun {
  /// How it ended.
  enum Outcome {
    /// Process 1 runs since this time of the monotonic clock, in microseconds.
    case executed(at: UInt64)
    case failed(Failure)
  }

  private let channel: Descriptor
  private let outer: Pidfd
  private var sources: [EventLoop.Source] = []
  private var failure: Failure?
  private var executing: UInt64?
  private var completion: ((Outcome) -> Void)?

  private(set) var notifySocket: Descriptor?
  private(set) var console: Descriptor?
  private(set) var terminals: Descriptor?
  private(set) var systemdFolder: Descriptor?
  private(set) var connections: Descriptor?
  private(set) var leader: (process: Pidfd, id: Int32)?

  init(
    _ plan: StagePlan, program: Descriptor, userNamespace: UserNamespace, cgroup: CgroupDirectory, log: Descriptor,
    sockets: [Descriptor] = [], on loop: EventLoop, completion: @escaping (Outcome) -> Void
  ) throws {
    let pair = try SocketPair(packets: true)
    channel = pair.first
    self.completion = completion
    var request = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "boot"],
      descriptors: [
        nil, nil, log, pair.second, try .sealedBytes(plan.encoded, name: "plan"), userNamespace.descriptor,
      ] + sockets)
    request.cgroup = cgroup.descriptor
    request.parentDeathSignal = SIGKILL
    outer = try request.start().process
    sources.append(try loop.addIO(channel.raw, .readable) { [unowned self] _ in receive() })
    sources.append(
      try loop.addChild(pidfd: outer.descriptor.raw) { [unowned self] in _ = try? outer.reap() })
    // Setting up takes milliseconds; a file system that hangs must not hang the start for ever.
    sources.append(
      try loop.addTimer(after: 60_000_000) { [unowned self] in
        failure = failure ?? Failure("set up", plan.name, "it did not come to its init within 60 s", kind: .timedOut)
        abandon()
      })
  }

  private func receive() {
    do {
      guard let (bytes, descriptor) = try channel.receive() else { return finish() }
      switch try StageMessage(decoding: bytes) {
      case .notifySocket: notifySocket = descriptor
      case .console: console = descriptor
      case .leader(let id): leader = descriptor.map { (Pidfd($0), id) }
      case .executing(let time): executing = time
      case .watchedFolder: systemdFolder = descriptor
      case .terminals: terminals = descriptor
      case .connections: connections = descriptor
      case .connection, .copied, .folder, .mounted: break
      case .failed(let stage):
        failure = Failure(stage)
      }
    } catch {
      failure = failure ?? Failure("talk with", "henge-stage", "\(error)")
      abandon()
    }
  }

  /// The channel is closed: by exec, or because every process that had it has ended.
  private func finish() {
    sources = []
    guard let completion else { return }
    self.completion = nil
    if let failure {
      completion(.failed(failure))
    } else if let executing, leader != nil {
      completion(.executed(at: executing))
    } else {
      completion(.failed(Failure("set up", "the machine", "henge-stage ended without a word")))
    }
  }

  private func abandon() {
    _ = try? outer.signal(SIGKILL)
    if let leader { _ = try? leader.process.signal(SIGKILL) }
    finish()
  }

  /// Waits for the outer child, which has nothing more to do.
  func reap() {
    _ = try? outer.reap(wait: true)
  }
}

extension Failure {
  /// What the stage reported, whole: its advice and its exit code are the operator's.
  init(_ stage: StageFailure) {
    self.init(
      stage.operation, stage.subject.isEmpty ? nil : stage.subject, stage.reason,
      advice: stage.advice.isEmpty ? nil : stage.advice, kind: Kind(rawValue: stage.code) ?? .failed)
    if stage.errno != 0 { errno = .init(rawValue: stage.errno) }
  }
}
