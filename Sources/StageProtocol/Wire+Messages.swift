extension StagePlan {
  /// The plan as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    writer.text(name)
    writer.integer(rootID)
    writer.text(mountPoint)
    writer.list(operations) { $0.operation($1) }
    writer.list(candidates) { $0.text($1) }
    writer.list(arguments) { $0.text($1) }
    writer.list(environment) { $0.text($1) }
    writer.byte(sockets)
    return writer.bytes
  }

  /// Reads a plan.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one plan.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    self.init(
      name: try reader.text(), rootID: try reader.integer(), mountPoint: try reader.text(),
      operations: try reader.list { (reader) throws(WireError) in try reader.operation() },
      candidates: try reader.texts(), arguments: try reader.texts(), environment: try reader.texts())
    sockets = try reader.byte()
    guard reader.isAtEnd else { throw WireError(expected: "the end of the plan") }
  }
}

extension StageMessage {
  /// The message as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .notifySocket: writer.byte(1)
    case .console: writer.byte(2)
    case .leader(let process): writer.byte(3); writer.integer(process)
    case .executing(let time): writer.byte(4); writer.integer(time)
    case .connection: writer.byte(5)
    case .watchedFolder: writer.byte(7)
    case .terminals: writer.byte(8)
    case .connections: writer.byte(10)
    case .copied(let result): writer.byte(20); writer.copyResult(result)
    case .folder(let path): writer.byte(21); writer.text(path)
    case .mounted(let mount): writer.byte(9); writer.integer(mount)
    case .failed(let failure):
      writer.byte(6)
      writer.text(failure.operation)
      writer.text(failure.subject)
      writer.text(failure.reason)
      writer.integer(failure.errno)
      writer.text(failure.advice)
      writer.integer(failure.code)
    }
    return writer.bytes
  }

  /// Reads a message.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one message.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1: self = .notifySocket
    case 2: self = .console
    case 3: self = .leader(try reader.integer())
    case 4: self = .executing(try reader.integer())
    case 5: self = .connection
    case 7: self = .watchedFolder
    case 8: self = .terminals
    case 10: self = .connections
    case 20: self = .copied(try reader.copyResult())
    case 21: self = .folder(try reader.text())
    case 9: self = .mounted(try reader.integer())
    case 6:
      self = .failed(
        StageFailure(
          operation: try reader.text(), subject: try reader.text(), reason: try reader.text(),
          errno: try reader.integer(), advice: try reader.text(), code: try reader.integer()))
    default: throw WireError(expected: "a message of the stage")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the message") }
  }
}

/// What a process does that has joined a machine.
public enum JoinRequest: Sendable, Equatable {
  /// Connects to a socket of the machine and hands the connection out.
  case connect(String)
  /// Becomes a program of the machine.
  case execute(arguments: [String], environment: [String])
  /// Copies trees into the machine or out of it.
  case copy(CopyRequest)
  /// Looks whether a program can be executed; that it can is told as `executing`.
  case find(String)
  /// Becomes a command of the operator's.
  case command(JoinedCommand)

  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .connect(let path): writer.byte(1); writer.text(path)
    case .execute(let arguments, let environment):
      writer.byte(2); writer.list(arguments) { $0.text($1) }; writer.list(environment) { $0.text($1) }
    case .copy(let request): writer.byte(20); writer.copyRequest(request)
    case .find(let program): writer.byte(22); writer.text(program)
    case .command(let command): writer.byte(21); writer.joinedCommand(command)
    }
    return writer.bytes
  }

  /// Reads a request.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one request.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1: self = .connect(try reader.text())
    case 2: self = .execute(arguments: try reader.texts(), environment: try reader.texts())
    case 20: self = .copy(try reader.copyRequest())
    case 22: self = .find(try reader.text())
    case 21: self = .command(try reader.joinedCommand())
    default: throw WireError(expected: "a request to a joined process")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the request") }
  }
}
