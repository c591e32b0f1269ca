import Glibc
import Linux
import StageProtocol
import Systemd

/// Folders of the running machine, looked up by a process in there and handed out as detached mounts.
final class FolderFetch {
  private let process: Pidfd
  private let channel: Descriptor
  private var sources: [EventLoop.Source] = []
  private var failure: Failure?

  /// - Parameter completion: called once, with each folder's path and mount.
  init(
    _ paths: [String], leader: Pidfd, program: Descriptor, on loop: EventLoop,
    completion: @escaping (Result<[(path: String, tree: Descriptor)], Failure>) -> Void
  ) throws {
    let pair = try SocketPair(packets: true)
    channel = pair.first
    try check(fcntl(channel.raw, F_SETFL, O_RDWR | O_NONBLOCK), "make a channel")
    var spawn = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "folders"],
      descriptors: [
        nil, nil, nil, pair.second, try .sealedBytes(FolderRequest(paths: paths).encoded, name: "request"),
        leader.descriptor,
      ])
    spawn.parentDeathSignal = SIGKILL
    process = try spawn.start().process
    sources = [
      try loop.addChild(pidfd: process.descriptor.raw) {
        _ = try? self.process.reap()
        // Last, since the sources hold the only strong references.
        let kept = self.sources
        self.sources = []
        completion(self.result())
        _ = kept
      },
      // A file system of the machine's own making may hang whoever looks at it.
      try loop.addTimer(after: 10_000_000) {
        self.failure = Failure("open", paths.first, "the machine did not answer in time", kind: .timedOut)
        _ = try? self.process.signal(SIGKILL)
      },
    ]
  }

  private func result() -> Result<[(path: String, tree: Descriptor)], Failure> {
    var folders: [(path: String, tree: Descriptor)] = []
    // All that it had to say waits in the channel.
    while failure == nil, let (bytes, descriptor) = (try? channel.receive()) ?? nil {
      switch try? StageMessage(decoding: bytes) {
      case .folder(let path): if let descriptor { folders.append((path, descriptor)) }
      case .failed(let stage): failure = Failure(stage)
      default: break
      }
    }
    if let failure { return .failure(failure) }
    guard !folders.isEmpty else {
      return .failure(Failure("look into", "the machine", "the process that did it ended"))
    }
    return .success(folders)
  }
}
