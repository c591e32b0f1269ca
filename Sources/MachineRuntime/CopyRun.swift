import Glibc
import Linux
import StageProtocol
import Systemd

/// A process that goes into the running machine and is one end of a copy there. The stream's other end is the client's:
/// no file goes through the supervisor.
final class CopyRun {
  /// In microseconds: how long it may take to remove what is not whole, once nobody waits for it any more.
  private static let grace: UInt64 = 10_000_000

  private let process: Pidfd
  private let channel: Descriptor
  private let loop: EventLoop
  private var sources: [EventLoop.Source] = []
  private var deadline: EventLoop.Source?

  /// Starts it.
  ///
  /// - Parameters:
  ///   - request: what to copy.
  ///   - stream: the machine's end of it; nobody here keeps it.
  ///   - leader: the machine's process 1.
  ///   - program: the sealed stage.
  ///   - completion: called once, after the process has ended.
  init(
    _ request: CopyRequest, stream: Descriptor?, leader: Pidfd, program: Descriptor, on loop: EventLoop,
    completion: @escaping (Result<CopyResult, Failure>) -> Void
  ) throws {
    self.loop = loop
    let pair = try SocketPair(packets: true)
    channel = pair.first
    try check(fcntl(channel.raw, F_SETFL, O_RDWR | O_NONBLOCK), "make a channel")
    let arguments = try Descriptor.sealedBytes(JoinRequest.copy(request).encoded, name: "request")
    var spawn = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "join"],
      descriptors: [nil, nil, nil, pair.second, arguments, leader.descriptor, stream])
    spawn.parentDeathSignal = SIGKILL
    process = try spawn.start().process
    var pending: ((Result<CopyResult, Failure>) -> Void)? = completion
    // The source holds the only strong reference: taken down last.
    sources.append(
      try loop.addChild(pidfd: process.descriptor.raw) {
        let exit = (try? self.process.reap()) ?? nil
        let result = self.result(exit)
        let kept = (self.sources, self.deadline)
        self.sources = []
        self.deadline = nil
        let call = pending
        pending = nil
        call?(result)
        _ = kept
      })
  }

  /// Whether it ended by itself, and so took back what was not whole.
  private(set) var wasOrderly = false

  private func result(_ exit: ProcessExit?) -> Result<CopyResult, Failure> {
    if let (bytes, _) = (try? channel.receive()) ?? nil {
      wasOrderly = true
      switch try? StageMessage(decoding: bytes) {
      case .copied(let result): return .success(result)
      case .failed(let stage): return .failure(Failure(stage))
      default: break
      }
    }
    wasOrderly = exit == .exited(0)
    return wasOrderly
      ? .success(CopyResult(isComplete: false))
      : .failure(Failure("copy", nil, "the process in the machine was killed", advice: "try again"))
  }

  /// Nobody waits for it any more. The stream ends as well, by which it knows to take everything back.
  ///
  /// - Parameter hasWritten: whether there is something to take back.
  func abandon(hasWritten: Bool) {
    if hasWritten {
      deadline = try? loop.addTimer(after: Self.grace) { [weak self] in _ = try? self?.process.signal(SIGKILL) }
    }
    if deadline == nil { _ = try? process.signal(SIGKILL) }
  }
}
