/// What a joined process copies: one end of a stream is in its hands, the other is on the host.
public struct CopyRequest: Sendable, Equatable {
  /// Which way.
  public enum Direction: UInt8, Sendable {
    /// Into the machine: the stream is read.
    case into = 1
    /// Out of the machine: the stream is written.
    case outOf = 2
    /// Nothing is copied: what a killed copy into the machine left there is removed.
    case sweep = 3
  }

  /// What is done otherwise than usual.
  public struct Options: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt32
    /// Wraps bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// What is there already is replaced, and folders are merged.
    public static let replace = Options(rawValue: 1)
    /// Folders that are missing on the way are made.
    public static let makeFolders = Options(rawValue: 2)
    /// The path is the copy's own even where a folder is there.
    public static let exact = Options(rawValue: 4)
    /// The path must be a folder.
    public static let folder = Options(rawValue: 8)
    /// Ids that the other side cannot have become nobody's.
    public static let squashIDs = Options(rawValue: 16)
    /// Sockets and devices are left out.
    public static let skipSpecial = Options(rawValue: 32)
  }

  /// Which way.
  public var direction: Direction
  /// The machine's paths: one destination, or sources.
  public var paths: [String]
  /// What is done otherwise than usual.
  public var options: Options

  /// A request.
  public init(_ direction: Direction, paths: [String], options: Options) {
    self.direction = direction
    self.paths = paths
    self.options = options
  }

  /// The names of the options on the control socket.
  public static let optionNames: [(name: String, option: Options)] = [
    ("replace", .replace), ("makeFolders", .makeFolders), ("exact", .exact), ("folder", .folder),
    ("squashIDs", .squashIDs), ("skipSpecial", .skipSpecial),
  ]
}

/// What became of a copy, as the end in the machine saw it.
public struct CopyResult: Sendable, Equatable {
  /// Files, folders and links.
  public var entries: UInt64
  /// Contents, holes not counted.
  public var bytes: UInt64
  /// False when the other end gave up, which says why.
  public var isComplete: Bool
  /// What the operator should know.
  public var notes: [String]

  /// A result.
  public init(entries: UInt64 = 0, bytes: UInt64 = 0, isComplete: Bool, notes: [String] = []) {
    self.entries = entries
    self.bytes = bytes
    self.isComplete = isComplete
    self.notes = notes
  }
}

extension WireWriter {
  mutating func copyRequest(_ request: CopyRequest) {
    byte(request.direction.rawValue)
    list(request.paths) { $0.text($1) }
    integer(request.options.rawValue)
  }

  mutating func copyResult(_ result: CopyResult) {
    integer(result.entries)
    integer(result.bytes)
    bool(result.isComplete)
    list(result.notes) { $0.text($1) }
  }
}

extension WireReader {
  mutating func copyRequest() throws(WireError) -> CopyRequest {
    guard let direction = CopyRequest.Direction(rawValue: try byte()) else {
      throw WireError(expected: "the direction of a copy")
    }
    return CopyRequest(direction, paths: try texts(), options: CopyRequest.Options(rawValue: try integer()))
  }

  mutating func copyResult() throws(WireError) -> CopyResult {
    CopyResult(entries: try integer(), bytes: try integer(), isComplete: try bool(), notes: try texts())
  }
}
