/// One step in setting up a machine, as the stage carries it out. Paths are the machine's own unless said otherwise,
/// and are looked up beneath its root, through no symbolic link.
public enum SetupOperation: Sendable, Equatable {
  /// Leaves the host's mount namespace for a copy in which nothing spreads.
  case isolateMounts
  /// Mounts the machine's root, attaches it and makes it the current directory.
  case root(RootSource, readOnly: Bool)
  /// Fails unless one of these is a program that this processor runs.
  case checkInit(candidates: [String], architecture: UInt16)
  /// Makes a directory, owned by the machine's root, unless it is there.
  case directory(String, mode: UInt32)
  /// Makes a file with these contents, owned by the machine's root, in place of one that is there.
  case file(String, mode: UInt32, contents: [UInt8])
  /// Makes a symbolic link, in place of a file or link that is there.
  case symbolicLink(String, target: String)
  /// Copies a file of the host's, in place of a file or link that is there.
  case copy(source: String, path: String, mode: UInt32)
  /// Makes a symbolic link as `symbolicLink`, if what `needs` names is there.
  case linkIfThere(String, target: String, needs: String)
  /// Removes a file or link, if it is there.
  case remove(String)
  /// Makes a node of each kind that nobody may use, for the machine's systemd to cover others with.
  case inaccessibleNodes(String)
  /// Mounts a file system in memory.
  case memory(String, kind: MemoryKind, mode: UInt32, options: [String], attributes: MountFlags)
  /// Binds something of the host's.
  case bind(Bind)
  /// Makes a device node that all of the machine may open; where none may be made, binds the host's after checking that
  /// it is that device.
  case device(String, major: UInt32, minor: UInt32)
  /// Shows a folder of the overlay's upper, a path of the host's, in its own place, so that no overlay is above it.
  case unlayered(String, upper: String)
  /// Binds a datagram socket and hands it to the supervisor.
  case notifySocket(String)
  /// Makes a directory and hands it to the supervisor, which watches what appears in it.
  case watchedFolder(String, mode: UInt32)
  /// Makes the mount at a path read-only.
  case sealMount(String)
  /// Mounts a proc and a sysfs without covers over those in sight, as far as there is a right to.
  case showKernel
  /// Joins the machine's user namespace and goes on as process 1 of new namespaces of every other kind; of the network,
  /// unless it shares the host's.
  case enterNamespaces(sharesNetwork: Bool = false)
  /// Sets the host name.
  case hostname(String)
  /// Puts the machine's root on top of itself: a mount that this namespace may pivot into.
  case adoptRoot
  /// Mounts a file system of the kernel's that belongs to the new namespaces.
  case mount(filesystem: String, path: String, options: [String], attributes: MountFlags)
  /// Makes a pseudo-terminal, puts it at a path and hands its controlling side to the supervisor.
  case console(String, devpts: String)
  /// Covers a file or folder of the kernel's, if this kernel has it and anybody in the machine could open it.
  case mask(String)
  /// Makes the machine's root the root, and lets go of the host's.
  case pivot
  /// From here on, connections wait for the word of whoever has what is handed to the supervisor.
  case watchConnections
  /// Drops these capabilities for good.
  case confine(dropped: [UInt32])
}

/// What a machine's root is made of. Paths are the host's.
public enum RootSource: Sendable, Equatable {
  /// A directory as it is.
  case directory(String, mapped: Bool)
  /// Layers, the top one first, each with its ids mapped before they are merged, and a writable folder over them; what
  /// overlayfs notes on files goes to `user.` attributes or to `trusted.` ones.
  case overlay(layers: [RootLayer], upper: OverlayUpper, userAttributes: Bool = false)
  /// An empty file system in memory that shows the `/usr` of a directory or of layers.
  case memory(usr: [RootLayer])
}

/// A read-only folder below others.
public struct RootLayer: Sendable, Equatable {
  /// Where it is on the host.
  public var path: String
  /// Whether its files still carry the ids of the image and are to be shown with the machine's.
  public var mapped: Bool

  /// A layer.
  public init(path: String, mapped: Bool) {
    self.path = path
    self.mapped = mapped
  }
}

/// Where an overlay keeps what is written.
public enum OverlayUpper: Sendable, Equatable {
  /// On disk: the folder and its work folder, on one file system.
  case directory(upper: String, work: String)
  /// In memory, gone with the machine.
  case memory
}

/// A file system in memory.
public enum MemoryKind: UInt8, Sendable, Equatable {
  /// May be swapped out and is bounded.
  case tmpfs
  /// Never leaves memory: for secrets.
  case ramfs
}

/// A bind mount from the host.
public struct Bind: Sendable, Equatable {
  /// Where on the host.
  public var source: String
  /// Where in the machine; a symbolic link on the way is followed inside the machine's root.
  public var path: String
  /// Whether what is mounted below the source comes along.
  public var recursive: Bool
  /// Whether the machine sees the host's root as its own.
  public var mapped: Bool
  /// Whether a source that is not there is passed over.
  public var optional: Bool
  /// What it allows.
  public var attributes: MountFlags

  /// A bind mount.
  public init(
    source: String, path: String, recursive: Bool, mapped: Bool, optional: Bool, attributes: MountFlags
  ) {
    self.source = source
    self.path = path
    self.recursive = recursive
    self.mapped = mapped
    self.optional = optional
    self.attributes = attributes
  }
}

/// What a mount does not allow.
public struct MountFlags: OptionSet, Sendable, Hashable {
  /// The bits on the wire.
  public let rawValue: UInt8
  /// Wraps the bits on the wire.
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  /// Writing.
  public static let readOnly = MountFlags(rawValue: 1)
  /// Set-id bits and file capabilities.
  public static let noSetID = MountFlags(rawValue: 2)
  /// Device nodes.
  public static let noDevices = MountFlags(rawValue: 4)
  /// Executing.
  public static let noExecute = MountFlags(rawValue: 8)
}
