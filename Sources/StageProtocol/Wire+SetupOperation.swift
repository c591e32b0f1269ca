extension WireWriter {
  mutating func operation(_ operation: SetupOperation) {
    switch operation {
    case .isolateMounts: byte(1)
    case .root(let source, let readOnly): byte(2); root(source); bool(readOnly)
    case .checkInit(let candidates, let architecture):
      byte(3); list(candidates) { $0.text($1) }; integer(architecture)
    case .directory(let path, let mode): byte(4); text(path); integer(mode)
    case .file(let path, let mode, let contents): byte(5); text(path); integer(mode); data(contents)
    case .symbolicLink(let path, let target): byte(6); text(path); text(target)
    case .remove(let path): byte(7); text(path)
    case .inaccessibleNodes(let path): byte(8); text(path)
    case .memory(let path, let kind, let mode, let options, let attributes):
      byte(9); text(path); byte(kind.rawValue); integer(mode); list(options) { $0.text($1) }; byte(attributes.rawValue)
    case .bind(let bind):
      byte(10); text(bind.source); text(bind.path)
      bool(bind.recursive); bool(bind.mapped); bool(bind.optional); byte(bind.attributes.rawValue)
    case .device(let path, let major, let minor): byte(11); text(path); integer(major); integer(minor)
    case .unlayered(let path, let upper): byte(27); text(path); text(upper)
    case .notifySocket(let path): byte(12); text(path)
    case .watchedFolder(let path, let mode):
      byte(25)
      text(path)
      integer(mode)
    case .sealMount(let path): byte(13); text(path)
    case .showKernel: byte(20)
    case .enterNamespaces(let sharesNetwork): byte(14); bool(sharesNetwork)
    case .hostname(let name): byte(15); text(name)
    case .adoptRoot: byte(16)
    case .mount(let filesystem, let path, let options, let attributes):
      byte(17); text(filesystem); text(path); list(options) { $0.text($1) }; byte(attributes.rawValue)
    case .console(let path, let devpts): byte(18); text(path); text(devpts)
    case .mask(let path): byte(19); text(path)
    case .pivot: byte(21)
    case .watchConnections: byte(26)
    case .copy(let source, let path, let mode): byte(23); text(source); text(path); integer(mode)
    case .linkIfThere(let path, let target, let needs): byte(24); text(path); text(target); text(needs)
    case .confine(let dropped): byte(22); list(dropped) { $0.integer($1) }
    }
  }

  private mutating func root(_ source: RootSource) {
    switch source {
    case .directory(let path, let mapped): byte(1); text(path); bool(mapped)
    case .overlay(let layers, let upper, let userAttributes):
      byte(2); self.layers(layers); bool(userAttributes)
      switch upper {
      case .directory(let upper, let work): byte(1); text(upper); text(work)
      case .memory: byte(2)
      }
    case .memory(let usr): byte(3); layers(usr)
    }
  }

  private mutating func layers(_ layers: [RootLayer]) {
    list(layers) {
      $0.text($1.path); $0.bool($1.mapped)
    }
  }
}

extension WireReader {
  mutating func operation() throws(WireError) -> SetupOperation {
    switch try byte() {
    case 1: return .isolateMounts
    case 2: return .root(try root(), readOnly: try bool())
    case 3: return .checkInit(candidates: try texts(), architecture: try integer())
    case 4: return .directory(try text(), mode: try integer())
    case 5: return .file(try text(), mode: try integer(), contents: try data())
    case 6: return .symbolicLink(try text(), target: try text())
    case 7: return .remove(try text())
    case 8: return .inaccessibleNodes(try text())
    case 9:
      let path = try text()
      guard let kind = MemoryKind(rawValue: try byte()) else { throw WireError(expected: "a kind of memory") }
      return .memory(path, kind: kind, mode: try integer(), options: try texts(), attributes: try flags())
    case 10:
      return .bind(
        Bind(
          source: try text(), path: try text(), recursive: try bool(), mapped: try bool(), optional: try bool(),
          attributes: try flags()))
    case 11: return .device(try text(), major: try integer(), minor: try integer())
    case 12: return .notifySocket(try text())
    case 13: return .sealMount(try text())
    case 14: return .enterNamespaces(sharesNetwork: try bool())
    case 20: return .showKernel
    case 15: return .hostname(try text())
    case 16: return .adoptRoot
    case 17:
      return .mount(filesystem: try text(), path: try text(), options: try texts(), attributes: try flags())
    case 18: return .console(try text(), devpts: try text())
    case 19: return .mask(try text())
    case 21: return .pivot
    case 22: return .confine(dropped: try list { (reader) throws(WireError) in try reader.integer() })
    case 23: return .copy(source: try text(), path: try text(), mode: try integer())
    case 26: return .watchConnections
    case 25: return .watchedFolder(try text(), mode: try integer())
    case 24: return .linkIfThere(try text(), target: try text(), needs: try text())
    case 27: return .unlayered(try text(), upper: try text())
    default: throw WireError(expected: "a set-up operation")
    }
  }

  mutating func texts() throws(WireError) -> [String] {
    try list { (reader) throws(WireError) in try reader.text() }
  }

  private mutating func flags() throws(WireError) -> MountFlags { MountFlags(rawValue: try byte()) }

  private mutating func root() throws(WireError) -> RootSource {
    switch try byte() {
    case 1: return .directory(try text(), mapped: try bool())
    case 2:
      let (layers, userAttributes) = (try layers(), try bool())
      let upper: OverlayUpper
      switch try byte() {
      case 1: upper = .directory(upper: try text(), work: try text())
      case 2: upper = .memory
      default: throw WireError(expected: "an upper")
      }
      return .overlay(layers: layers, upper: upper, userAttributes: userAttributes)
    case 3: return .memory(usr: try layers())
    default: throw WireError(expected: "a root")
    }
  }

  private mutating func layers() throws(WireError) -> [RootLayer] {
    try list { (reader) throws(WireError) in RootLayer(path: try reader.text(), mapped: try reader.bool()) }
  }
}
