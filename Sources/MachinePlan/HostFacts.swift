/// What this host allows, probed once; a plain value, so that a plan can be made for a host that is not this one.
public struct HostFacts: Sendable, Equatable {
  /// The kernel's release, as of `uname -r`.
  public var kernelRelease = ""
  /// The processor, as the number in an ELF header.
  public var architecture: UInt16 = 0
  /// The host's `os-release`, as it stands.
  public var osRelease: [UInt8] = []
  /// Where control groups come from.
  public var cgroup = CgroupFacts()
  /// The host's systemd, where it has one that is ours to ask.
  public var manager = HostManager.none
  /// What of the host matters to a machine's network.
  public var network = NetworkFacts()
  /// What this process may do.
  public var privilege = Privilege.root
  /// The numbers of capabilities that this kernel knows are those below.
  public var capabilityCount: UInt32 = 41
  /// The time zone that the host's `/etc/localtime` is linked to, such as `Europe/Berlin`.
  public var timezone: String?
  /// Whether the host's `/etc/localtime` is there at all.
  public var hasLocaltime = false
  /// Whether the host keeps a journal on disk: whether `/var/log/journal` is there.
  public var keepsJournal = false
  /// Whether the host has a folder for this machine's journal already.
  public var hasMachinesJournal = false
  /// Whether the file system that holds the machine's files can map ids of a mount.
  public var canMapIDs = true
  /// Whether parts of `/proc` or `/sys` are covered or read-only, as container engines have them.
  public var coversKernel = false
  /// Whether no sysfs in sight can be written to: then the kernel lets no machine have one that can.
  public var hasReadOnlySysfs = false
  /// What limits that are shares, or that are about devices, stand for.
  public var capacity = HostCapacity()

  /// A host of which nothing is known yet.
  public init() {}
}

/// With what rights machines are set up.
public enum Privilege: String, Sendable {
  /// Root of the host.
  case root
  /// Root of a user namespace: an ordinary user's, or a machine's. It has no say over the host's file systems.
  case namespaceRoot = "namespace-root"
  /// Nobody in particular.
  case user
}

/// The systemd of the host's that keeps the tree of control groups.
public enum HostManager: Sendable, Equatable {
  /// There is none.
  case none
  /// The host's process 1.
  case system
  /// The manager of the user that we run as, with the user's run-time folder.
  case user(runtime: String)
}

/// Who makes a machine's control group.
public enum CgroupKeeper: Sendable, Equatable {
  /// We do, below our own group.
  case nobody
  /// The host's systemd, as a transient scope.
  case scope
  /// It has made it already: the service of this name, which this process is in.
  case service(String)
}

/// The control group that machines are made below.
public struct CgroupFacts: Sendable, Equatable {
  /// How the host mounts control groups.
  public enum Layout: String, Sendable {
    /// Version 2 only.
    case unified
    /// Version 2 beside hierarchies of version 1.
    case hybrid
    /// No version 2 anywhere.
    case missing
  }
  /// How the host mounts control groups.
  public var layout = Layout.missing
  /// Where version 2 is mounted.
  public var mount = ""
  /// The folder that groups of machines are made in.
  public var own = ""
  /// Whether groups may be made in it.
  public var isOurs = true
  /// Whether they are mounted read-only, as in a container that was not given a say over its own.
  public var isReadOnly = false
  /// Who makes the groups of machines.
  public var keeper = CgroupKeeper.nobody
  /// Whether the host's mount has `nsdelegate`.
  public var delegatesToNamespaces = false
  /// Controllers that groups below our own may have.
  public var controllers: [String] = []
  /// Those of them that groups below our own have already.
  public var enabled: [String] = []
  /// Whether our own group may pass on the others: it is the topmost, or no process is in it.
  public var canEnable = false
  /// The group above our own, where it is ours to make groups in.
  public var above: Group?
  /// Names of the files that belong to the delegate, as of `/sys/kernel/cgroup/delegate`.
  public var delegatedFiles: [String] = []

  /// No control groups.
  public init() {}
}
