// The mounts that an operator may ask for, in nspawn's words.

/// How the ids of a bind mount's files look in the machine.
public enum IDMapping: String, SpecKeyword, Hashable {
  /// As the machine's id map has them: files of the host's users belong to nobody.
  case noidmap
  /// The host's id N is the machine's id N (`mount_setattr(MOUNT_ATTR_IDMAP)`).
  case idmap
  /// The owner of the source is the machine's root.
  case rootidmap
  /// The owner of the source is the owner of the destination.
  case owneridmap
}

/// `Bind=`, `BindReadOnly=`: a file or folder of the host that the machine sees.
public struct BindMount: SpecValue, Hashable {
  /// What of the host is shown.
  public var source: AbsolutePath
  /// Where it appears in the machine; never `/`.
  public let destination: AbsolutePath
  /// `-` before the source: a source that does not exist is passed over.
  public var isOptional: Bool = false
  /// `rbind` (default) or `norbind`: whether mounts below the source come along.
  public var isRecursive: Bool = true
  /// `noidmap` (default), `idmap`, `rootidmap`, `owneridmap`.
  public var idMapping: IDMapping = .noidmap

  /// Takes a bind mount with default options.
  ///
  /// - Parameters:
  ///   - source: what of the host is shown.
  ///   - destination: where it appears in the machine.
  /// - Throws: `SpecError` when the destination is `/`.
  public init(source: AbsolutePath, destination: AbsolutePath) throws(SpecError) {
    guard !destination.isRoot else { throw SpecError("destination", "/", "the machine's root cannot be bound over") }
    try destination.checkNotReserved()
    self.source = source
    self.destination = destination
  }

  /// Takes `[-]SOURCE[:DESTINATION[:OPTION,…]]`, in which `\:` is a colon and `\\` a backslash.
  ///
  /// - Parameter text: the bind mount.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let parts = try splitColons(text)
    guard (1...3).contains(parts.count), var first = parts.first else {
      throw SpecError("bind mount", text, "write [-]SOURCE[:DESTINATION[:OPTIONS]], a colon in a path as \"\\:\"")
    }
    let optional = first.utf8.first == UInt8(ascii: "-")
    if optional { first = String(decoding: first.utf8.dropFirst(), as: UTF8.self) }
    let source = try AbsolutePath(first)
    try self.init(source: source, destination: parts.count > 1 ? AbsolutePath(parts[1]) : source)
    isOptional = optional
    for option in parts.count > 2 ? parts[2].fields(.comma) : [] {
      switch option {
      case "rbind": isRecursive = true
      case "norbind": isRecursive = false
      default:
        guard let mapping = IDMapping(rawValue: option) else {
          throw SpecError(
            "bind option", option, "allowed are rbind, norbind, noidmap, idmap, rootidmap, owneridmap")
        }
        idMapping = mapping
      }
    }
  }

  /// The text that parses to this value.
  public var description: String {
    var text = (isOptional ? "-" : "") + escapeColons(source.description)
    var options = isRecursive ? [] : ["norbind"]
    if idMapping != .noidmap { options.append(idMapping.rawValue) }
    if source != destination || !options.isEmpty { text += ":" + escapeColons(destination.description) }
    return options.isEmpty ? text : text + ":" + options.joined(separator: ",")
  }
}

/// `TemporaryFileSystem=`: a tmpfs in the machine.
public struct TemporaryFileSystem: SpecValue, Hashable {
  /// Where it is mounted; never `/`.
  public let path: AbsolutePath
  /// Options of tmpfs(5) and of mount(8), checked; for example `size=64M`, `mode=0755`, `noexec`.
  public let options: [String]

  /// Takes `PATH[:OPTION,…]`, in which `\:` is a colon and `\\` a backslash.
  ///
  /// - Parameter text: the file system.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let parts = try splitColons(text)
    guard (1...2).contains(parts.count), let first = parts.first else {
      throw SpecError("temporary file system", text, "write PATH[:OPTIONS], a colon in the path as \"\\:\"")
    }
    path = try AbsolutePath(first)
    guard !path.isRoot else { throw SpecError("destination", "/", "use Volatile= for the machine's root") }
    try path.checkNotReserved()
    options = parts.count > 1 ? parts[1].fields(.comma) : []
    for option in options where !Self.isAllowed(option) {
      throw SpecError(
        "tmpfs option", option,
        "allowed are size=, nr_blocks=, nr_inodes=, mode=, uid=, gid=, huge=, "
          + Self.flags.sorted().joined(separator: ", "))
    }
  }

  /// The text that parses to this value.
  public var description: String {
    escapeColons(path.description) + (options.isEmpty ? "" : ":" + options.joined(separator: ","))
  }

  private static let flags: Set<String> = [
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime",
    "relatime", "norelatime", "strictatime", "nosymfollow",
  ]

  private static func isAllowed(_ option: String) -> Bool {
    guard let (key, value) = option.cut(UInt8(ascii: "=")) else { return flags.contains(option) }
    let number = decimal(value, as: UInt64.self) != nil
    let head = String(decoding: value.utf8.dropLast(), as: UTF8.self)
    let suffixed = number || decimal(head, as: UInt64.self) != nil && "kKmMgGtTpPeE".utf8.contains(value.utf8.last ?? 0)
    switch key {
    case "size": return suffixed || value.utf8.last == UInt8(ascii: "%") && (decimal(head, as: Int.self) ?? 101) <= 100
    case "nr_blocks", "nr_inodes": return suffixed
    case "mode":
      return (1...5).contains(value.utf8.count) && value.utf8.allSatisfy(\.isDigit)
        && (UInt32(value, radix: 8) ?? .max) <= 0o7777
    case "uid", "gid": return decimal(value, as: UInt32.self).map { $0 != .max } ?? false
    case "huge": return ["never", "always", "within_size", "advise"].contains(value)
    default: return false
    }
  }
}

/// `Unlayered=`: a folder of the machine's that is no part of an overlay.
public struct UnlayeredFolder: SpecValue, Hashable {
  /// Where it is; never `/`.
  public let path: AbsolutePath

  /// Takes a path.
  ///
  /// - Parameter text: the path.
  /// - Throws: `SpecError` when it is none, or one of a place that every machine's set-up fills.
  public init(_ text: String) throws(SpecError) {
    path = try AbsolutePath(text)
    guard !path.isRoot else { throw SpecError("folder", "/", "create the machine with PrivateUsersOwnership=chown") }
    try path.checkNotReserved()
  }

  /// The text that parses to this value.
  public var description: String { path.description }
}

/// Splits at colons; `\:` is a colon and `\\` a backslash, and nothing else may be escaped.
private func splitColons(_ text: String) throws(SpecError) -> [String] {
  var parts: [[UInt8]] = []
  var part: [UInt8] = []
  var rest = Array(text.utf8)[...]
  while let byte = rest.popFirst() {
    if byte == .colon {
      parts.append(part)
      part = []
    } else if byte == .backslash {
      guard let next = rest.popFirst(), next == .colon || next == .backslash else {
        throw SpecError("value", text, "a backslash may escape only a colon or a backslash")
      }
      part.append(next)
    } else {
      part.append(byte)
    }
  }
  return (parts + [part]).map { String(decoding: $0, as: UTF8.self) }
}

private func escapeColons(_ path: String) -> String {
  var result: [UInt8] = []
  for byte in path.utf8 {
    if byte == .colon || byte == .backslash { result.append(.backslash) }
    result.append(byte)
  }
  return String(decoding: result, as: UTF8.self)
}

extension AbsolutePath {
  /// Refuses the places that the machine's own set-up fills after the operator's mounts: what it makes there would be
  /// made in the host's folder, or hide what was asked for. A single device below `/dev` may be bound.
  fileprivate func checkNotReserved() throws(SpecError) {
    let text = description
    let isReserved =
      ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/run"].contains(text)
      || ["/proc", "/sys", "/run/host"].contains { text == $0 || text.hasPrefix($0 + "/") }
    if isReserved { throw SpecError("destination", text, "it is filled by the machine's own set-up") }
  }
}
