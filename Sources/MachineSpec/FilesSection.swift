/// Whose the files on disk are while a machine's ids are shifted: `PrivateUsersOwnership=`.
public enum FileOwnership: String, SpecKeyword, Hashable {
  /// `map` where the file system can, else `chown`.
  case auto
  /// The files stay as they are and an idmapped mount shifts them (`mount_setattr(MOUNT_ATTR_IDMAP)`).
  case map
  /// The files on disk are given to the machine's range.
  case chown
}

/// What of the root file system is thrown away at the end of each boot: `Volatile=`.
public enum VolatileMode: String, SpecKeyword, Hashable {
  /// Nothing.
  case no
  /// Everything but `/usr`, which is read-only on an empty tmpfs root.
  case yes
  /// `/var`, a tmpfs; the rest is read-only.
  case state
  /// All that is written, to an overlay on a tmpfs.
  case overlay

  /// Takes one of the words, or systemd's other words for yes and no.
  ///
  /// - Parameter text: the word.
  /// - Throws: `SpecError` that lists the words.
  public init(_ text: String) throws(SpecError) {
    if let word = Self(rawValue: text) {
      self = word
    } else if let flag = try? parseBoolean(text) {
      self = flag ? .yes : .no
    } else {
      throw SpecError("value", text, Self.allowed)
    }
  }
}

/// `[Image]` and `[Files]`, two headers over one list of keys: where the root comes from and what is mounted into it.
public struct FilesSection: Equatable, Sendable {
  /// `Image=`: the image that the root stands on; not together with `Directory=`.
  public var image: ImageName?
  /// `Directory=`: a folder of the host used in place as the root; not together with `Image=`.
  public var directory: AbsolutePath?
  /// `PrivateUsersOwnership=`: default auto.
  public var privateUsersOwnership: FileOwnership = .auto
  /// `Volatile=`: default no.
  public var volatile: VolatileMode = .no
  /// `Bind=`: writable bind mounts. Repeated keys add.
  public var bind: [BindMount] = []
  /// `BindReadOnly=`: read-only bind mounts. Repeated keys add.
  public var bindReadOnly: [BindMount] = []
  /// `TemporaryFileSystem=`: tmpfs mounts. Repeated keys add.
  public var temporaryFileSystems: [TemporaryFileSystem] = []
  /// `Unlayered=`: folders that lie on the disk itself where the root is an overlay. Repeated keys add.
  public var unlayered: [UnlayeredFolder] = []

  /// The defaults.
  public init() {}

  /// One mount that the operator asked for.
  public enum Mount: Hashable, Sendable {
    /// A writable bind mount.
    case bind(BindMount)
    /// A read-only bind mount.
    case bindReadOnly(BindMount)
    /// A tmpfs.
    case temporary(TemporaryFileSystem)
    /// A folder that no layer is below.
    case unlayered(UnlayeredFolder)

    /// Where it is mounted in the machine.
    public var destination: AbsolutePath {
      switch self {
      case .bind(let mount), .bindReadOnly(let mount): mount.destination
      case .temporary(let mount): mount.path
      case .unlayered(let folder): folder.path
      }
    }
  }

  /// All mounts in the order to make them: each after whatever lies above it.
  public var mounts: [Mount] {
    let all =
      bind.map(Mount.bind) + bindReadOnly.map(Mount.bindReadOnly) + temporaryFileSystems.map(Mount.temporary)
      + unlayered.map(Mount.unlayered)
    return all.sorted { $0.destination < $1.destination }
  }

  static let imageKeys: [SpecKey] = [
    .optional("Image", \.files.image),
    .optional("Directory", \.files.directory) { $0.isRoot ? "the host's root cannot be a machine's" : nil },
  ]

  static let keys: [SpecKey] = [
    .value("PrivateUsersOwnership", \.files.privateUsersOwnership),
    .value("Volatile", \.files.volatile),
    .list("Bind", \.files.bind),
    .list("BindReadOnly", \.files.bindReadOnly),
    .list("TemporaryFileSystem", \.files.temporaryFileSystems),
    .list("Unlayered", \.files.unlayered),
  ]
}
