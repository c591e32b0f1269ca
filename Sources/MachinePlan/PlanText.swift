import StageProtocol

extension HostStep {
  /// The step, and what belongs to it, a line each.
  public var lines: [String] {
    guard case .cgroup(let plan) = self else { return [description] }
    let passed = plan.controllers.isEmpty ? [] : ["give it the controllers \(plan.controllers.joined(separator: " "))"]
    return [description] + passed + plan.limits.map { "\($0)" }
  }

  /// One line that says what is done to what.
  public var description: String {
    switch self {
    case .shiftOwnership(let path, let from, let to, _): "give the files of \(path) from ids \(from)… to ids \(to)…"
    case .cgroup(let plan) where plan.keeper == .scope:
      "have the host's systemd make the scope \(plan.name), its payload for id \(plan.delegate)"
    case .cgroup(let plan): "make the control group \(plan.parent)/\(plan.name), its payload for id \(plan.delegate)"
    case .journalFolder(let path, let owner): "make the journal folder \(path), for id \(owner)"
    case .scratchFolder(let path, _, _): "make the folder \(path) for what is written, gone when the machine stops"
    case .userNamespace(let base, let count): "make a user namespace: 0 is \(base), \(count) ids"
    }
  }
}
