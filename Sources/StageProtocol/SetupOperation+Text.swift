extension SetupOperation: CustomStringConvertible {
  /// One line that says what is done to what.
  public var description: String {
    switch self {
    case .isolateMounts: "leave the host's mount namespace"
    case .root(let source, let readOnly): "mount the root: \(source)\(readOnly ? ", read-only" : "")"
    case .checkInit(let candidates, _): "check for an init at \(candidates.joined(separator: ", "))"
    case .directory(let path, let mode): "make the folder \(path) (\(String(mode, radix: 8)))"
    case .file(let path, _, let contents): "write \(path) (\(contents.count) bytes)"
    case .copy(let source, let path, _): "copy the host's \(source) to \(path)"
    case .symbolicLink(let path, let target): "link \(path) to \(target)"
    case .linkIfThere(let path, let target, let needs): "link \(path) to \(target) if there is \(needs)"
    case .remove(let path): "remove \(path)"
    case .inaccessibleNodes(let path): "make inaccessible nodes in \(path)"
    case .memory(let path, let kind, _, let options, let flags):
      "mount \(kind) on \(path) (\((flags.words + options).joined(separator: ",")))"
    case .bind(let bind):
      "bind the host's \(bind.source) on \(bind.path) (\(bind.attributes.words.joined(separator: ",")))"
        + (bind.mapped ? " with ids mapped" : "")
    case .device(let path, let major, let minor): "make the device \(path) (\(major):\(minor)), open to all"
    case .unlayered(let path, let upper): "show \(path) of the upper \(upper) without the layers"
    case .notifySocket(let path): "bind the notify socket \(path)"
    case .watchedFolder(let path, _): "make the folder \(path), to be watched"
    case .sealMount(let path): "make \(path) read-only"
    case .showKernel: "put a proc and a sysfs without covers in sight"
    case .enterNamespaces(let sharesNetwork):
      "enter the machine's namespaces as process 1\(sharesNetwork ? ", and stay in the host's network" : "")"
    case .hostname(let name): "set the host name \(name)"
    case .adoptRoot: "take the root into the new mount namespace"
    case .mount(let filesystem, let path, let options, let flags):
      "mount \(filesystem) on \(path) (\((flags.words + options).joined(separator: ",")))"
    case .console(let path, _): "put a pseudo-terminal on \(path)"
    case .mask(let path): "cover \(path)"
    case .pivot: "make it the root, and let go of the host's"
    case .watchConnections: "have connections wait for whether the host makes them"
    case .confine(let dropped): "drop the capabilities \(dropped.map(String.init).joined(separator: ", "))"
    }
  }
}

extension RootSource: CustomStringConvertible {
  /// What it is made of.
  public var description: String {
    switch self {
    case .directory(let path, let mapped): "\(path)\(mapped ? " with ids mapped" : "")"
    case .overlay(let layers, let upper, _): "\(upper) over \(layers.map(\.description).joined(separator: " over "))"
    case .memory(let usr): "memory with /usr of \(usr.map(\.description).joined(separator: " over "))"
    }
  }
}

extension RootLayer: CustomStringConvertible {
  /// Where it is.
  public var description: String { "\(path)\(mapped ? " with ids mapped" : "")" }
}

extension OverlayUpper: CustomStringConvertible {
  /// Where it is.
  public var description: String {
    switch self {
    case .directory(let upper, _): upper
    case .memory: "memory"
    }
  }
}

extension MountFlags {
  /// The words of mount(8).
  public var words: [String] {
    [(MountFlags.readOnly, "ro"), (.noSetID, "nosuid"), (.noDevices, "nodev"), (.noExecute, "noexec")]
      .filter { contains($0.0) }.map(\.1)
  }
}
