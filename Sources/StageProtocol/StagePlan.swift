/// Everything that the stage is told: the steps in their order, and the program at their end.
public struct StagePlan: Sendable, Equatable {
  /// The machine's name, for the process list.
  public var name: String
  /// The host's id of the machine's root.
  public var rootID: UInt32
  /// A folder of the host's that the root is put together on, in the stage's own mount namespace.
  public var mountPoint: String
  /// The steps; those up to `enterNamespaces` run on the host's side of the user namespace.
  public var operations: [SetupOperation]
  /// Programs of the machine to try in turn; the first that is there becomes process 1.
  public var candidates: [String]
  /// Its arguments, after its own name.
  public var arguments: [String]
  /// Its environment, `NAME=value`.
  public var environment: [String]
  /// How many listening sockets of the host's it gets, from descriptor 3 on.
  public var sockets: UInt8 = 0

  /// A plan.
  public init(
    name: String, rootID: UInt32, mountPoint: String, operations: [SetupOperation], candidates: [String],
    arguments: [String],
    environment: [String]
  ) {
    self.name = name
    self.rootID = rootID
    self.mountPoint = mountPoint
    self.operations = operations
    self.candidates = candidates
    self.arguments = arguments
    self.environment = environment
  }
}

/// What the stage tells the supervisor. That process 1 runs is told by the end of the channel, which closes on exec.
public enum StageMessage: Sendable, Equatable {
  /// The notify socket comes along.
  case notifySocket
  /// The controlling side of the console comes along.
  case console
  /// The machine's instance of devpts comes along: where terminals of the machine are made.
  case terminals
  /// The watched folder comes along.
  case watchedFolder
  /// What waiting connections are told at comes along.
  case connections
  /// The leader's pidfd comes along, with its number on the host.
  case leader(Int32)
  /// Exec is next, at this time of the monotonic clock in microseconds.
  case executing(UInt64)
  /// A mount of a running machine was attached or detached: its number, unique as long as the host is up.
  case mounted(UInt64)
  /// A joined process has a connection, which comes along.
  case connection
  /// A folder of the machine comes along as a detached mount; this is where it belongs.
  case folder(String)
  /// A joined process has copied what it was told to.
  case copied(CopyResult)
  /// It did not work; nothing more follows.
  case failed(StageFailure)
}

/// A failed step.
public struct StageFailure: Sendable, Equatable {
  /// What was being done, in the infinitive.
  public var operation: String
  /// The path that it was done to.
  public var subject: String
  /// Why it did not work.
  public var reason: String
  /// The kernel's error number, or 0.
  public var errno: Int32
  /// What mends it, or nothing.
  public var advice: String
  /// The exit code that it stands for.
  public var code: Int32

  /// A failed step.
  public init(operation: String, subject: String, reason: String, errno: Int32, advice: String = "", code: Int32 = 1) {
    self.operation = operation
    self.subject = subject
    self.reason = reason
    self.errno = errno
    self.advice = advice
    self.code = code
  }
}

/// The descriptors that the stage finds open.
public enum StageDescriptor {
  /// The channel to the supervisor, a socket that keeps the bounds of messages.
  public static let channel: Int32 = 3
  /// The plan, or what a joined process is to do, in an anonymous file.
  public static let plan: Int32 = 4
  /// The machine's user namespace, or when joining the leader's pidfd.
  public static let namespace: Int32 = 5
  /// The first of the sockets that process 1 gets.
  public static let sockets: Int32 = 6
  /// Of a joined process that copies: the stream.
  public static let stream: Int32 = 6
  /// For a mount that is to be attached: its detached tree. For a view: the first of them.
  public static let tree: Int32 = 6
  /// And the user namespace that maps its ids.
  public static let users: Int32 = 7
}
