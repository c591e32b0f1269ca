import CLinux
import Glibc
import SystemPackage

/// What a mount allows, as of `mount_setattr(2)`.
public struct MountAttributes: OptionSet, Sendable {
  /// The `MOUNT_ATTR_…` bits.
  public let rawValue: UInt64
  /// Wraps `MOUNT_ATTR_…` bits.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Nothing is written.
  public static let readOnly = MountAttributes(rawValue: clinux_mount_rdonly)
  /// Set-id bits and file capabilities have no effect.
  public static let noSetID = MountAttributes(rawValue: clinux_mount_nosuid)
  /// Device nodes have no effect.
  public static let noDevices = MountAttributes(rawValue: clinux_mount_nodev)
  /// Nothing is executed.
  public static let noExecute = MountAttributes(rawValue: clinux_mount_noexec)
  /// No symbolic link in it leads anywhere.
  public static let noSymbolicLinks = MountAttributes(rawValue: clinux_mount_nosymfollow)
}

/// A mount that is attached nowhere yet, held by its descriptor: no path leads to it until it is moved into place.
public struct MountTree: Sendable {
  /// The detached mount; after `attach` it is the root of the attached one.
  public let descriptor: Descriptor

  /// A mount that is open already, attached or not.
  public init(descriptor: Descriptor) {
    self.descriptor = descriptor
  }

  /// Copies the mount at a place of the host. The corresponding C function is `open_tree`.
  ///
  /// - Parameters:
  ///   - path: where, as seen from `directory`.
  ///   - directory: where `path` starts.
  ///   - recursive: whether what is mounted below comes along.
  public init(
    copying path: String, from directory: Descriptor = .currentDirectory, recursive: Bool = false
  ) throws(Failure) {
    descriptor = Descriptor(
      adopting: try check(clinux_open_tree(directory.raw, path, recursive, true), "open the tree", path))
  }

  /// Mounts a file system. The corresponding C functions are `fsopen`, `fsconfig` and `fsmount`.
  ///
  /// - Parameters:
  ///   - filesystem: the kernel's name for it.
  ///   - options: keys with a value, or without one where it is nil.
  ///   - descriptors: keys whose value is a descriptor, given after the options, in this order.
  ///   - attributes: what the mount allows.
  /// - Throws: `Failure` with the file system's own words where it has some.
  public init(
    filesystem: String, options: [(key: String, value: String?)] = [],
    descriptors: [(key: String, value: Descriptor)] = [], attributes: MountAttributes = []
  ) throws(Failure) {
    let context = Descriptor(adopting: try check(clinux_fsopen(filesystem), "open the file system", filesystem))
    func step(_ result: Int32, _ what: String) throws(Failure) {
      do {
        try check(result, what, filesystem)
      } catch {
        throw Self.explained(error, context: context)
      }
    }
    for (key, value) in options {
      if let value {
        try step(clinux_fsconfig_string(context.raw, key, value), "set \(key) of")
      } else {
        try step(clinux_fsconfig_flag(context.raw, key), "set \(key) of")
      }
    }
    for (key, value) in descriptors {
      // Before 6.15 no descriptor without rights is taken here, but the name that the kernel itself gives to it.
      var result = clinux_fsconfig_descriptor(context.raw, key, value.raw)
      if result < 0, errno == EBADF { result = clinux_fsconfig_string(context.raw, key, "/proc/self/fd/\(value.raw)") }
      try step(result, "set \(key) of")
    }
    // The kernel holds the path of a detached mount, but dissolves the mount when its last descriptor is closed.
    try withExtendedLifetime(descriptors) { () throws(Failure) in
      try step(clinux_fsconfig_create(context.raw), "make the file system")
    }
    let mount = clinux_fsmount(context.raw, attributes.rawValue)
    try step(mount, "mount the file system")
    descriptor = Descriptor(adopting: mount)
  }

  /// Whether overlayfs takes layers by descriptor, attached or not (since 6.15), or else by name and attached only.
  public static let overlayTakesDescriptors: Bool = {
    guard let place = try? Descriptor.open("/", [.path, .directory]) else { return false }
    let context = clinux_fsopen("overlay")
    guard context >= 0 else { return false }
    defer { close(context) }
    return withExtendedLifetime(place) { clinux_fsconfig_descriptor(context, "lowerdir+", place.raw) == 0 }
  }()

  private static func explained(_ failure: Failure, context: Descriptor) -> Failure {
    var text = [CChar](repeating: 0, count: 256)
    guard clinux_fscontext_message(context.raw, &text, Int32(text.count)) > 0 else { return failure }
    var failure = failure
    var message = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    // Each begins with a letter that says how grave it is.
    if message.count > 2, message[1] == 32 { message.removeFirst(2) }
    failure.reason += " (\(String(decoding: message.filter { $0 != 10 }, as: UTF8.self)))"
    return failure
  }

  /// Changes what the mount allows, and whose ids it shows. The corresponding C function is `mount_setattr`.
  ///
  /// - Parameters:
  ///   - set: attributes to add.
  ///   - clear: attributes to take away.
  ///   - userNamespace: the mapping of ids, for a mount that is not attached and not mapped yet.
  ///   - recursive: whether mounts below change as well.
  public func change(
    set: MountAttributes = [], clear: MountAttributes = [], userNamespace: UserNamespace? = nil,
    recursive: Bool = false
  ) throws(Failure) {
    let operation = userNamespace == nil ? "change the attributes of a mount" : "map the ids of a mount"
    try check(
      clinux_mount_setattr(
        descriptor.raw, recursive, set.rawValue, clear.rawValue, userNamespace?.descriptor.raw ?? -1), operation)
  }

  /// Attaches the mount on top of an open place. The corresponding C function is `move_mount`.
  public func attach(on target: Descriptor) throws(Failure) {
    try check(clinux_move_mount(descriptor.raw, target.raw), "attach a mount")
  }
}

extension Descriptor {
  /// The number of the mount that this is in, unique as long as the host is up. The corresponding C function is
  /// `statx(STATX_MNT_ID_UNIQUE)`.
  public func mountID() throws(Failure) -> UInt64 {
    var id: UInt64 = 0
    try check(clinux_mount_id(raw, &id), "look at a mount")
    return id
  }
}

/// How mounts made at one place show at others.
public enum Propagation: Sendable {
  /// Nowhere else.
  case isolated
  /// At every peer.
  case shared
}

extension MountTree {
  /// Has nothing show in it, nor below it, that is mounted from now on in the tree that it is a copy of. The
  /// corresponding C function is `mount_setattr`.
  public func isolate() throws(Failure) {
    try check(
      clinux_mount_propagation(descriptor.raw, "", true, clinux_ms_private), "change the propagation of a mount")
  }
}

/// Sets the propagation of the whole tree at a path. The corresponding C function is `mount_setattr`.
public func setPropagation(_ propagation: Propagation, of path: String) throws(Failure) {
  let kind = propagation == .shared ? clinux_ms_shared : clinux_ms_private
  try check(
    clinux_mount_propagation(Descriptor.currentDirectory.raw, path, true, kind), "change the propagation of", path)
}
