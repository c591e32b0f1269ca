import Glibc
import Linux
import StageProtocol
import Systemd

/// One process that carries traffic: started, watched, and ended with the run that it belongs to.
final class CarrierProcess {
  private let process: Pidfd
  /// Its number, for the operator.
  let id: Int32
  /// Commands to it go here; a forwarder's end closes when it has become its program.
  let channel: Descriptor
  private let errors: Descriptor
  private var sources: [EventLoop.Source] = []
  private var lastWords: [UInt8] = []
  private var failure: Failure?
  private var onEnd: ((String) -> Void)?
  /// How it ended; nil while it runs.
  private(set) var exit: ProcessExit?
  private var commands: [(bytes: [UInt8], descriptor: Descriptor?)] = []

  /// - Parameters:
  ///   - network: the machine's network namespace.
  ///   - extra: what the kind of process takes besides.
  ///   - more: what it takes after that, in the order of `CarrierDescriptor`.
  ///   - group: the control group that it is born in.
  ///   - onEnd: called once with why it ended; not after `end`.
  init(
    _ request: CarrierRequest, network: Descriptor, extra: Descriptor? = nil, more: [Descriptor] = [], run: NetworkRun,
    group: CgroupDirectory, in context: NetworkContext,
    onEnd: @escaping (String) -> Void
  ) throws(Failure) {
    let channels = try SocketPair(packets: true)
    let outputs = try SocketPair(packets: false)
    channel = channels.first
    errors = outputs.first
    var spawn = ProcessRequest(
      .descriptor(try context.program()), arguments: ["henge-stage", "carry"],
      descriptors: [
        nil, nil, outputs.second, channels.second, try .sealedBytes(request.encoded, name: "request"),
        run.userNamespace, network, extra,
      ] + more)
    spawn.cgroup = group.descriptor
    spawn.newSession = true
    spawn.parentDeathSignal = SIGKILL
    (process, id) = try spawn.start()
    self.onEnd = onEnd
    do {
      try check(fcntl(channel.raw, F_SETFL, O_RDWR | O_NONBLOCK), "make a channel")
      sources = [
        try context.loop.addIO(channel.raw, .readable) { [unowned self] events in
          if events.contains(.writable) { sendCommands() }
          if !events.subtracting(.writable).isEmpty { takeMessage() }
        },
        try context.loop.addIO(errors.raw, .readable) { [unowned self] _ in takeWords() },
        try context.loop.addChild(pidfd: process.descriptor.raw) { [unowned self] in ended() },
      ]
    } catch {
      end()
      throw error as? Failure ?? Failure("watch", "henge-stage", "\(error)")
    }
  }

  deinit { end() }

  /// Ends it, if it has not ended yet.
  func end() {
    sources = []
    onEnd = nil
    // It has nothing to write and nobody to wait for: from the signal to its end is a matter of a millisecond.
    if let isThere = try? process.signal(SIGKILL), isThere { _ = try? process.reap(wait: true) }
  }

  /// Tells it something, as soon as its queue has room.
  func send(_ bytes: [UInt8], passing descriptor: Descriptor? = nil) {
    commands.append((bytes, descriptor))
    sendCommands()
  }

  private func sendCommands() {
    while let command = commands.first {
      do {
        try channel.send(command.bytes, passing: command.descriptor)
      } catch {
        // What else goes wrong shows as its end.
        if error.errno != .wouldBlock { commands = [] }
        break
      }
      commands.removeFirst()
    }
    try? sources.first?.setEvents(commands.isEmpty ? .readable : [.readable, .writable])
  }

  private func takeMessage() {
    guard let (bytes, _) = (try? channel.receive()) ?? nil else {
      // The end: it became its program, or ended.
      sources.first?.cancel()
      return
    }
    if case .failed(let stage)? = try? StageMessage(decoding: bytes) {
      failure = Failure(
        stage.operation, stage.subject.isEmpty ? nil : stage.subject, stage.reason,
        advice: stage.advice.isEmpty ? nil : stage.advice)
    }
  }

  /// What it says is drained, so that it never waits for us; the end of it tells why it ended.
  private func takeWords() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(errors.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    guard count > 0 else {
      if count == 0, sources.count > 1 { sources[1].cancel() }
      return
    }
    lastWords = (lastWords + buffer[..<count]).suffix(2048)
  }

  private func ended() {
    takeMessage()
    for _ in 0..<4 { takeWords() }
    exit = (try? process.reap(wait: true)) ?? nil
    let kept = sources
    sources = []
    let call = onEnd
    onEnd = nil
    call?(reason(exit))
    _ = kept
  }

  private func reason(_ exit: ProcessExit?) -> String {
    if let failure { return failure.description }
    let how =
      switch exit {
      case .exited(let status): "with status \(status)"
      case .signalled(let number): "by signal \(number)"
      case nil: "in a way that is not known"
      }
    let lines = String(decoding: lastWords, as: UTF8.self).split(separator: "\n").filter { !$0.hasSuffix("to syslog") }
    if lines.isEmpty { return "ended \(how)" }
    return "ended \(how): \(printable(lines.suffix(3).joined(separator: " | "), limit: 200))"
  }
}
