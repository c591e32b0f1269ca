import CLinux
import Glibc
import Linux
import Systemd
import Varlink

/// The methods that run something inside the machine.
extension Supervisor {
  func execute(_ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    let parameters = call.parameters
    func texts(_ key: String) -> [String] { parameters[key]?.arrayValue?.compactMap(\.stringValue) ?? [] }
    var request = ExecutionRequest(command: texts("command"))
    request.user = parameters["user"]?.stringValue
    request.directory = parameters["directory"]?.stringValue
    request.environment = texts("environment")
    request.isSession = parameters["session"]?.boolValue ?? false
    if let limit = parameters["timeout"]?.intValue { request.timeout = UInt64(clamping: min(limit, 1 << 40)) * 1000 }
    guard request.isSession || !request.command.isEmpty else { throw VarlinkError.invalidParameter("command") }
    let executions = try readyExecutions()
    if let terminal = parameters["terminal"], terminal != .null {
      guard responder.more else { throw VarlinkError.expectedMore }
      let pty = try makeTerminal(columns: terminal["columns"]?.intValue, rows: terminal["rows"]?.intValue)
      request.terminal = "/dev/pts/\(try pty.number())"
      request.streams = [pty.terminal, pty.terminal, pty.terminal]
      request.heldTerminal = pty
      responder.send(["terminal": 0], passing: [pty.controller])
    } else {
      request.streams = try streams(texts("streams"), call.descriptors)
    }
    run(request, in: executions, responder)
  }

  func login(_ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    guard responder.more else { throw VarlinkError.expectedMore }
    let executions = try readyExecutions()
    let terminal = call.parameters["terminal"]
    let pty = try makeTerminal(columns: terminal?["columns"]?.intValue, rows: terminal?["rows"]?.intValue)
    var request = ExecutionRequest(command: ["a getty"])
    request.existing = ("container-getty@\(try pty.number()).service", "system-container\\x2dgetty.slice")
    request.heldTerminal = pty
    responder.send(["terminal": 0], passing: [pty.controller])
    run(request, in: executions, responder)
  }

  private func run(_ request: ExecutionRequest, in executions: Executions, _ responder: VarlinkResponder) {
    let execution = executions.run(request) { [responder] result in Self.answer(responder, result) }
    responder.onHangUp = { [weak executions, weak execution] in
      guard let executions, let execution else { return }
      executions.stop(execution, .signalled(SIGHUP))
    }
  }

  private static func answer(_ responder: VarlinkResponder, _ result: ExecutionResult) {
    switch result {
    case .exited(let status): responder.finish(["exit": JSON(status)])
    case .signalled(let number): responder.finish(["signal": JSON(number)])
    case .refused(let code, let failure):
      responder.finish(["exit": JSON(code), "message": .string(failure.description)])
    case .lost(let failure): responder.fail(VarlinkError(failure))
    }
  }

  /// What runs commands, where commands can be run just now.
  func readyExecutions() throws(Failure) -> Executions {
    guard case .up = phase, let leader, let host else {
      throw Failure(
        "run a command in", name.description, "it is \(phase.name)", advice: "'hengectl wait \(name)' waits for it")
    }
    if try host.scope.payload.read("cgroup.freeze")?.first == "1" {
      throw Failure("run a command in", name.description, "it is frozen", advice: "hengectl thaw \(name)")
    }
    if let executions { return executions }
    let made = Executions(
      machine: name.description, leader: leader.process, programs: programs, payload: host.scope.payload,
      quickMoves: quickMoves,
      dropped: droppedCapabilities, loop: loop)
    executions = made
    return made
  }

  /// What the stage took away from process 1.
  private var droppedCapabilities: [UInt32] {
    for case .confine(let dropped) in plan?.stage.operations ?? [] { return dropped }
    return []
  }

  /// Makes a pty in the machine's own instance of devpts, for its root.
  func makeTerminal(columns: Int64?, rows: Int64?) throws(Failure) -> Pty {
    guard let terminals, let record else {
      throw Failure("make a terminal in", name.description, "its devpts is not known")
    }
    let pty = try Pty(in: terminals, owner: record.range.base)
    if let columns, let rows {
      setTerminalSize(of: pty.controller.raw, columns: Int(clamping: columns), rows: Int(clamping: rows))
    }
    return pty
  }

  /// The command's standard streams. Only pipes without a name get into the machine, made for this call: a directory is
  /// a way out of it (`openat`), a terminal takes keystrokes from whoever is in it (`TIOCSTI`), a socket belongs to the
  /// host's network whatever it is connected to later, a file that is open for one thing can be opened again for
  /// another, and what others write to a pipe that they share is not the machine's to read. Who asks for it passes such
  /// a pipe all the same: for writing, or for reading, and nothing else.
  private func streams(_ words: [String], _ descriptors: [Descriptor]) throws(Failure) -> [Descriptor?] {
    guard words.count == 3, let record else {
      throw Failure("run a command in", name.description, "it takes three streams", kind: .usage)
    }
    var rest = descriptors[...]
    var streams: [Descriptor?] = []
    for word in words {
      guard word != "null" else {
        streams.append(nil)
        continue
      }
      guard word == "pipe" || word == "direct", let descriptor = rest.popFirst(), descriptor.isAnonymousPipe else {
        throw Failure("pass a stream to", name.description, "only pipes are passed into a machine", kind: .usage)
      }
      if word == "direct" {
        // The operator's own: in the one direction, and as it is.
        let isInput = streams.isEmpty
        guard fcntl(descriptor.raw, F_GETFL) & O_ACCMODE == (isInput ? O_RDONLY : O_WRONLY) else {
          throw Failure("pass a stream to", name.description, "the pipe is open in another direction", kind: .usage)
        }
        streams.append(descriptor)
        continue
      }
      // The command may open it again, as /dev/stdout, whoever it runs as; only who has it can.
      try check(fchown(descriptor.raw, record.range.base, record.range.base), "pass on", "a pipe")
      try check(fchmod(descriptor.raw, 0o666), "pass on", "a pipe")
      streams.append(descriptor)
    }
    return streams
  }
}
