import MachineSpec
import StageProtocol

/// What becomes of the root, decided.
struct PlannedRoot {
  var source: RootSource
  var isReadOnly = false
  var shift: HostStep?
  var scratch: HostStep?
}

extension Planner {
  /// `PrivateUsersOwnership=` and `Volatile=`.
  func root() throws(PlanError) -> PlannedRoot {
    var result = try persistentRoot()
    switch spec.files.volatile {
    case .no: if spec.machine.ephemeral { makeEphemeral(&result) }
    case .state: result.isReadOnly = true
    case .yes: result.source = .memory(usr: lower(of: result.source))
    case .overlay:
      result.source = .overlay(layers: lower(of: result.source), upper: .memory, userAttributes: hasUserAttributes)
    }
    return result
  }

  /// `Ephemeral=`: what is written goes to a folder of this start's own.
  private func makeEphemeral(_ root: inout PlannedRoot) {
    let layers = lower(of: root.source)
    guard let top = layers.first else { return }
    root.scratch = .scratchFolder(path: machine.scratch, like: top.path, idOffset: top.mapped ? machine.rootID : 0)
    root.source = .overlay(
      layers: layers, upper: .directory(upper: "\(machine.scratch)/upper", work: "\(machine.scratch)/work"),
      userAttributes: hasUserAttributes)
  }

  /// What overlayfs notes on files goes to attributes that the root of a user namespace may write.
  private var hasUserAttributes: Bool { host.privilege != .root }

  private func persistentRoot() throws(PlanError) -> PlannedRoot {
    switch machine.root {
    case .layers(let layers, let upper, let work):
      // A machine made from an image was made for one way of ownership; the store has seen to that.
      try requireMapping()
      return PlannedRoot(
        source: .overlay(
          layers: layers.map { RootLayer(path: $0, mapped: true) }, upper: .directory(upper: upper, work: work),
          userAttributes: hasUserAttributes))
    case .tree(let path, let ownership):
      let wantsMap =
        switch spec.files.privateUsersOwnership {
        case .map: true
        case .chown: false
        // What was begun is gone on with: shifting a tree back and forth is not what `auto` should do by itself.
        case .auto: host.canMapIDs && ownership == .unshifted
        }
      if wantsMap { try requireMapping() }
      var result = PlannedRoot(source: .directory(path, mapped: wantsMap))
      let (zero, base, count) = (UInt32(0), machine.rootID, machine.idCount)
      if wantsMap && ownership != .unshifted {
        result.shift = .shiftOwnership(path: path, from: base, to: zero, count: count)
      } else if !wantsMap && ownership != .shifted {
        result.shift = .shiftOwnership(path: path, from: zero, to: base, count: count)
      }
      return result
    }
  }

  private func requireMapping() throws(PlanError) {
    if !host.canMapIDs {
      throw PlanError(
        "the file system of the machine's files cannot map ids",
        advice: "set PrivateUsersOwnership=chown, or keep the machine on ext4, btrfs, xfs or tmpfs", isHostsFault: true)
    }
  }

  private func lower(of source: RootSource) -> [RootLayer] {
    switch source {
    case .directory(let path, let mapped): [RootLayer(path: path, mapped: mapped)]
    case .overlay(let layers, .directory(let upper, _), _): [RootLayer(path: upper, mapped: false)] + layers
    case .overlay(let layers, .memory, _), .memory(let layers): layers
    }
  }
}
