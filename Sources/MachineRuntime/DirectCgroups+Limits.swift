import Linux
import MachinePlan
import SystemPackage

extension DirectCgroups {
  /// Has groups in a group get controllers of its own. Those that some limit needs must come; the others are left out
  /// where the kernel says no.
  static func enable(_ controllers: [String], in group: CgroupDirectory, for limits: [Limit]) throws(Failure) {
    let there = (try group.read("cgroup.subtree_control") ?? "").split { $0 == " " || $0 == "\n" }.map(String.init)
    for controller in controllers where !there.contains(controller) {
      do throws(Failure) {
        try group.write("cgroup.subtree_control", "+\(controller)")
      } catch {
        guard let limit = limits.first(where: { $0.controller == controller }) else { continue }
        let reason: String
        switch error.errno {
        case .resourceBusy?: reason = "processes are in that group, move them into one below it"
        case .noSuchFileOrDirectory?: reason = "that group has it not itself"
        default: reason = error.reason
        }
        throw Failure(
          "enable the \(controller) controller in", group.path, "\(limit.key)= needs it, and \(reason)", kind: .refused)
      }
    }
  }

  func apply(
    _ changes: [Limit.Change], to scope: CgroupScope, _ done: @escaping (Result<Void, Failure>) -> Void
  ) {
    do throws(Failure) {
      // The start enabled what could be had; what it did not need to have may be missing.
      let limits = changes.map(\.limit)
      let controllers = Set(limits.map(\.controller)).sorted()
      let path = scope.group.path
      if let slash = path.lastIndex(of: "/") {
        try Self.enable(controllers, in: CgroupDirectory(opening: String(path[..<slash])), for: limits)
      }
      try Self.enable(controllers, in: scope.group, for: limits)
      try scope.group.apply(changes)
      scope.show(changes.map(\.limit))
      done(.success(()))
    } catch {
      done(.failure(error))
    }
  }
}

extension CgroupScope {
  /// Lets the machine's own group say what it has: programs in there look for their limits at the top of what they see.
  /// What counts stands on the group above; so a file that cannot be written is no failure.
  func show(_ limits: [Limit]) {
    for write in limits.flatMap(\.writes) where write.isShown { try? payload.write(limit: write) }
  }
}

extension CgroupDirectory {
  /// Makes changes, all or none.
  ///
  /// - Throws: `Failure` that names the key of the spec; what was written before is taken back.
  func apply(_ changes: [Limit.Change]) throws(Failure) {
    for (index, change) in changes.enumerated() {
      do throws(Failure) {
        for write in change.limit.writes { try self.write(limit: write) }
      } catch {
        for done in changes[...index].reversed() { for write in done.before.writes { try? self.write(limit: write) } }
        let reason =
          error.errno == .noSuchFileOrDirectory ? "this kernel, or this group, has no such file" : error.reason
        throw Failure(
          "set \(change.limit.key)= in", path, "\(reason) (\(change.limit.writes.map(\.file).joined(separator: ", ")))")
      }
    }
  }

  /// An empty value must still be a write. Without waiting: newer kernels then reclaim what is above a lowered limit as
  /// the machine goes on, and not while whoever lowers it stands still.
  func write(limit: CgroupWrite) throws(Failure) {
    func put(_ file: String, _ value: String) throws(Failure) {
      let descriptor = try descriptor.open(file, [.write, .nonBlocking], lookup: .beneath)
      try descriptor.writeAll((value + "\n").utf8, subject: "\(path)/\(file)")
    }
    do throws(Failure) {
      try put(limit.file, limit.value)
    } catch {
      guard let instead = limit.instead, error.errno == .noSuchFileOrDirectory else { throw error }
      try put(instead.file, instead.value)
    }
  }
}
