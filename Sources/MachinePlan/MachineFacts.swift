import MachineSpec
import StageProtocol

/// What is known of a machine besides its spec: what the store recorded when it was made.
public struct MachineFacts: Sendable, Equatable {
  /// The machine's name.
  public var name: MachineName
  /// Its id, the same for every start.
  public var uuid: MachineUUID
  /// The host's id of its root.
  public var rootID: UInt32
  /// How many ids it has.
  public var idCount: UInt32
  /// A folder of the host's that is there while it runs and that nobody looks for anything in.
  public var mountPoint: String
  /// A folder of the host's beside the machine's files, for what is thrown away.
  public var scratch = ""
  /// What its root is.
  public var root: MachineRoot
  /// What its systemd will call it: its `/etc/machine-id`, or what that will become.
  public var machineID = ""
  /// The contents of the credentials that the spec loads from files, by name.
  public var loadedCredentials: [(name: String, value: [UInt8])] = []

  /// What is known of a machine.
  public init(
    name: MachineName, uuid: MachineUUID, rootID: UInt32, idCount: UInt32, mountPoint: String, root: MachineRoot
  ) {
    self.name = name
    self.uuid = uuid
    self.rootID = rootID
    self.idCount = idCount
    self.mountPoint = mountPoint
    self.root = root
  }

  /// Compares everything.
  public static func == (left: Self, right: Self) -> Bool {
    left.name == right.name && left.uuid == right.uuid && left.rootID == right.rootID
      && left.idCount == right.idCount && left.mountPoint == right.mountPoint && left.scratch == right.scratch
      && left.root == right.root
      && left.machineID == right.machineID && left.loadedCredentials.elementsEqual(right.loadedCredentials, by: ==)
  }
}

/// What a machine's root is made of. Paths are the host's.
public enum MachineRoot: Sendable, Equatable {
  /// Layers of an image, the top one first, below a folder of the machine's own.
  case layers([String], upper: String, work: String)
  /// A tree of the machine's own or the operator's.
  case tree(String, ownership: TreeOwnership)
}

/// Whose ids the files of a tree carry.
public enum TreeOwnership: String, Sendable, Equatable {
  /// The image's: 0 is root.
  case unshifted
  /// Some the image's, some the machine's: a shift was begun, in either direction.
  case between
  /// The machine's.
  case shifted
}
