import Glibc
import Linux
import StageProtocol
import Systemd

/// A process that goes into the running machine, does one thing and ends.
final class Joiner {
  private let process: Pidfd
  private let channel: Descriptor
  private var output: Descriptor?
  private var text: [UInt8] = []
  private var sources: [EventLoop.Source] = []
  private var connection: Descriptor?
  private var failure: Failure?
  private var isFound = false

  private init(
    _ request: JoinRequest, arguments: Descriptor, leader: Pidfd, program: Descriptor, output: Descriptor?
  ) throws(Failure) {
    let pair = try SocketPair(packets: true)
    channel = pair.first
    try check(fcntl(channel.raw, F_SETFL, O_RDWR | O_NONBLOCK), "make a channel")
    var spawn = ProcessRequest(
      .descriptor(program), arguments: ["henge-stage", "join"],
      descriptors: [nil, output, nil, pair.second, arguments, leader.descriptor])
    spawn.parentDeathSignal = SIGKILL
    process = try spawn.start().process
  }

  /// Connects to a socket of the machine, from inside it.
  ///
  /// - Parameters:
  ///   - timeout: in microseconds.
  ///   - completion: called once with the connection.
  static func connect(
    to path: String, leader: Pidfd, program: Descriptor, on loop: EventLoop, timeout: UInt64,
    completion: @escaping (Result<Descriptor, Failure>) -> Void
  ) throws -> Joiner {
    let request = JoinRequest.connect(path)
    let joiner = try Joiner(
      request, arguments: try .sealedBytes(request.encoded, name: "request"), leader: leader, program: program,
      output: nil)
    try joiner.watch(on: loop, timeout: timeout, subject: path) { joiner in
      if let connection = joiner.connection {
        completion(.success(connection))
      } else {
        completion(.failure(joiner.failure ?? Failure("connect to", path, "the joined process ended")))
      }
    }
    return joiner
  }

  /// Looks, inside the machine, whether a program can be executed there.
  ///
  /// - Parameters:
  ///   - timeout: in microseconds.
  ///   - completion: called once; false also when it could not be found out.
  static func find(
    _ program: String, leader: Pidfd, stage: Descriptor, on loop: EventLoop, timeout: UInt64,
    completion: @escaping (Bool) -> Void
  ) throws -> Joiner {
    let request = try Descriptor.sealedBytes(JoinRequest.find(program).encoded, name: "request")
    let joiner = try Joiner(.find(program), arguments: request, leader: leader, program: stage, output: nil)
    try joiner.watch(on: loop, timeout: timeout, subject: program) { completion($0.isFound) }
    return joiner
  }

  /// Runs a program of the machine as its root without capabilities, and takes what it prints, up to a bound.
  ///
  /// - Parameters:
  ///   - limit: in bytes; the rest is not read.
  ///   - timeout: in microseconds.
  ///   - completion: called once with what was printed, also when it was cut off.
  static func run(
    _ arguments: [String], leader: Pidfd, program: Descriptor, on loop: EventLoop, limit: Int, timeout: UInt64,
    completion: @escaping ([UInt8]) -> Void
  ) throws -> Joiner {
    let request = JoinRequest.execute(
      arguments: arguments, environment: ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "SYSTEMD_COLORS=0"])
    let pair = try SocketPair(packets: false)
    let joiner = try Joiner(
      request, arguments: try .sealedBytes(request.encoded, name: "request"), leader: leader, program: program,
      output: pair.second)
    joiner.output = pair.first
    joiner.sources.append(
      try loop.addIO(pair.first.raw, .readable) { [unowned joiner] _ in joiner.read(limit: limit) })
    try joiner.watch(on: loop, timeout: timeout, subject: arguments.first ?? "") { joiner in
      joiner.read(limit: limit)
      completion(joiner.text)
    }
    return joiner
  }

  private func read(limit: Int) {
    guard let output else { return }
    var buffer = [UInt8](repeating: 0, count: 4096)
    while text.count < limit {
      let count = recv(output.raw, &buffer, min(buffer.count, limit - text.count), Int32(MSG_DONTWAIT))
      guard count > 0 else { break }
      text += buffer[..<count]
    }
    if text.count >= limit { _ = try? process.signal(SIGKILL) }
  }

  private func takeMessage() {
    guard failure == nil, let (bytes, descriptor) = (try? channel.receive()) ?? nil else { return }
    switch try? StageMessage(decoding: bytes) {
    case .connection: connection = descriptor
    case .failed(let stage): failure = Failure(stage)
    case .executing: isFound = true
    default: break
    }
  }

  private func watch(
    on loop: EventLoop, timeout: UInt64, subject: String, completion: @escaping (Joiner) -> Void
  ) throws {
    var pending: ((Joiner) -> Void)? = completion
    func end() {
      // The sources hold the only strong references: take them down last.
      let kept = sources
      sources = []
      let call = pending
      pending = nil
      call?(self)
      _ = kept
    }
    sources.append(
      try loop.addChild(pidfd: process.descriptor.raw) {
        _ = try? self.process.reap()
        // Its one message waits in the channel.
        self.takeMessage()
        end()
      })
    sources.append(
      try loop.addTimer(after: timeout) {
        self.failure = Failure("reach", subject, "the machine did not answer in time", kind: .timedOut)
        _ = try? self.process.signal(SIGKILL)
      })
  }
}
