/// A program of the host's that is shown a few folders of a machine and nothing else of it.
public struct ViewRequest: Sendable, Equatable {
  /// Whose folders these are.
  public enum Source: Sendable, Equatable {
    /// A machine that runs: where these detached mounts belong, which are open from `StageDescriptor.tree` on.
    case running(paths: [String])
    /// A machine that is stopped: what its root is made of, and what its spec binds over it.
    case stopped(root: RootSource, binds: [Bind])
  }
  /// The host's id of the machine's root.
  public var rootID: UInt32
  /// A folder of the host's to put things together on, in a mount namespace of the stage's own.
  public var mountPoint: String
  /// Where the folders come from.
  public var source: Source
  /// The machine's folders; of each, the one below it that is called like the machine's id, where there is one.
  public var folders: [String]
  /// Where the program finds them: `/machine` and the folder's path.
  public static let place = "/machine"
  /// The program, its arguments and environment. What it has of the host is `/usr`, and what leads there from `/`.
  public var program: [String]
  /// Its environment, `NAME=value`.
  public var environment: [String]

  /// A request.
  public init(
    rootID: UInt32, mountPoint: String, source: Source, folders: [String], program: [String], environment: [String]
  ) {
    self.rootID = rootID
    self.mountPoint = mountPoint
    self.source = source
    self.folders = folders
    self.program = program
    self.environment = environment
  }

  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    writer.integer(rootID)
    writer.text(mountPoint)
    switch source {
    case .running(let paths): writer.byte(1); writer.list(paths) { $0.text($1) }
    case .stopped(let root, let binds):
      writer.byte(2)
      writer.operation(.root(root, readOnly: true))
      writer.list(binds) { $0.operation(.bind($1)) }
    }
    writer.list(folders) { $0.text($1) }
    writer.list(program) { $0.text($1) }
    writer.list(environment) { $0.text($1) }
    return writer.bytes
  }

  /// Reads a request.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one request.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    rootID = try reader.integer()
    mountPoint = try reader.text()
    switch try reader.byte() {
    case 1: source = .running(paths: try reader.texts())
    case 2:
      guard case .root(let root, _) = try reader.operation() else { throw WireError(expected: "a root") }
      let binds = try reader.list { (reader) throws(WireError) in
        guard case .bind(let bind) = try reader.operation() else { throw WireError(expected: "a bind mount") }
        return bind
      }
      source = .stopped(root: root, binds: binds)
    default: throw WireError(expected: "a machine that runs or is stopped")
    }
    folders = try reader.texts()
    program = try reader.texts()
    environment = try reader.texts()
    guard reader.isAtEnd else { throw WireError(expected: "the end of the request") }
  }
}

/// What a joined process looks up in a running machine, to hand it out as detached mounts that nobody can write to.
public struct FolderRequest: Sendable, Equatable {
  /// The machine's folders; of each, the one below it that is called like the machine's id, where there is one.
  public var paths: [String]

  /// A request.
  public init(paths: [String]) {
    self.paths = paths
  }

  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    writer.list(paths) { $0.text($1) }
    return writer.bytes
  }

  /// Reads a request.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one request.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    paths = try reader.texts()
    guard reader.isAtEnd else { throw WireError(expected: "the end of the request") }
  }
}
