import Glibc
import Linux
import StageProtocol
import Systemd

/// A process that attaches or detaches one mount in the running machine.
final class MountChange {
  private let process: Pidfd
  private let channel: Descriptor
  private var sources: [EventLoop.Source] = []
  private var failure: Failure?
  private var completion: ((Result<UInt64, Failure>) -> Void)?

  /// Begins.
  ///
  /// - Parameters:
  ///   - tree: the detached mount to attach, and the user namespace that maps it.
  ///   - completion: called once, with the number of the mount; holds this object until then.
  init(
    _ request: MountRequest, tree: (mount: Descriptor, users: UserNamespace)?, leader: Pidfd, program: Descriptor,
    on loop: EventLoop, completion: @escaping (Result<UInt64, Failure>) -> Void
  ) throws {
    let pair = try SocketPair(packets: true)
    channel = pair.first
    try check(fcntl(channel.raw, F_SETFL, O_RDWR | O_NONBLOCK), "make a channel")
    var spawn = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "mounts"],
      descriptors: [nil, nil, nil, pair.second, try .sealedBytes(request.encoded, name: "request"), leader.descriptor])
    if let tree { spawn.descriptors += [tree.mount, tree.users.descriptor] }
    spawn.parentDeathSignal = SIGKILL
    process = try spawn.start().process
    self.completion = completion
    sources = [
      try loop.addChild(pidfd: process.descriptor.raw) { self.finish(request.path) },
      // A file system of the machine's own making may hang whoever looks at it.
      try loop.addTimer(after: 10_000_000) {
        self.failure = Failure("reach", request.path, "the machine did not answer in time", kind: .timedOut)
        _ = try? self.process.signal(SIGKILL)
      },
    ]
  }

  private func finish(_ path: String) {
    _ = try? process.reap()
    var result: Result<UInt64, Failure> = .failure(
      failure ?? Failure("change the mount at", path, "the process in the machine ended"))
    if failure == nil, let (bytes, _) = (try? channel.receive()) ?? nil {
      switch try? StageMessage(decoding: bytes) {
      case .mounted(let mount): result = .success(mount)
      case .failed(let stage): result = .failure(Failure(stage))
      default: break
      }
    }
    let call = completion
    completion = nil
    // Last, since the sources hold the only strong references.
    let kept = sources
    sources = []
    call?(result)
    _ = kept
  }
}

/// A mount that was attached while the machine runs.
struct LiveMount {
  var path: String
  var source: String
  var isReadOnly: Bool
  var id: UInt64
}
