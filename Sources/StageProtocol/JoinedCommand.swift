/// A command that a joined process becomes, in a machine whose init takes none.
public struct JoinedCommand: Sendable, Equatable {
  /// The program and its arguments; none for the user's own shell.
  public var arguments: [String]
  /// `NAME=value`, over what the user has.
  public var environment: [String]
  /// A name or a number, looked up in the machine's own files.
  public var user: String
  /// Where it starts; empty for `/`, or in a session the user's home.
  public var directory: String
  /// Whether standard input is its terminal.
  public var hasTerminal: Bool
  /// Whether it starts as a login does.
  public var isSession: Bool
  /// The capabilities that nothing in the machine has.
  public var dropped: [UInt32]

  /// A command.
  public init(
    arguments: [String], environment: [String], user: String, directory: String, hasTerminal: Bool, isSession: Bool,
    dropped: [UInt32]
  ) {
    self.arguments = arguments
    self.environment = environment
    self.user = user
    self.directory = directory
    self.hasTerminal = hasTerminal
    self.isSession = isSession
    self.dropped = dropped
  }
}

extension WireWriter {
  mutating func joinedCommand(_ command: JoinedCommand) {
    list(command.arguments) { $0.text($1) }
    list(command.environment) { $0.text($1) }
    text(command.user)
    text(command.directory)
    byte(command.hasTerminal ? 1 : 0)
    byte(command.isSession ? 1 : 0)
    list(command.dropped) { $0.integer($1) }
  }
}

extension WireReader {
  mutating func joinedCommand() throws(WireError) -> JoinedCommand {
    JoinedCommand(
      arguments: try texts(), environment: try texts(), user: try text(), directory: try text(),
      hasTerminal: try byte() == 1, isSession: try byte() == 1,
      dropped: try list { (reader) throws(WireError) in try reader.integer() })
  }
}
