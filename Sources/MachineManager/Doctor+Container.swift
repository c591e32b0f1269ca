import CLinux
import Glibc
import Linux
import Varlink

/// What the container that this runs in was not given. Nothing for a host, and for a machine of ours, which has it all.
extension MachineManager {
  /// What root needs of those capabilities that engines keep back.
  private static let needed = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]

  /// Whose container this is; nil for none that is known.
  var engine: String? {
    if access("/run/.containerenv", F_OK) == 0 { return "podman" }
    return access("/.dockerenv", F_OK) == 0 ? "docker" : nil
  }

  /// Looks at what the engine kept back.
  ///
  /// - Parameter facts: what the supervisor's program found; nil where it could not even be started.
  func container(_ facts: JSON?) -> [Finding] {
    guard let engine else { return [] }
    return [capabilities(engine), systemCalls(facts, engine), kernelInSight(facts, engine)].compactMap { $0 }
  }

  private func capabilities(_ engine: String) -> Finding? {
    // An ordinary user's come with a namespace of the user's own.
    guard geteuid() == 0, ordinaryUser == nil else { return nil }
    let missing = Self.needed.filter { !Capabilities.has($0) }
    let options = missing.map { "--cap-add=\($0.dropFirst(4))" }.joined(separator: " ")
    return Finding(
      subject: "container",
      text: "of \(engine), " + (missing.isEmpty ? "with" : "without ")
        + (missing.isEmpty ? " the capabilities that it takes" : missing.joined(separator: ", ")),
      isGood: missing.isEmpty, isNeeded: true,
      mend: missing.isEmpty
        ? nil : "\(engine) run \(options) …, with ids of its own (\(Self.ownIDs(engine))): then they count in it alone")
  }

  /// A filter answers for the kernel, and the same for whatever is run below it.
  private func systemCalls(_ facts: JSON?, _ engine: String) -> Finding? {
    let path = "/proc/self/status"
    let status = (try? Descriptor.open(path).readAll(limit: 65536, subject: path)) ?? []
    let lines = String(decoding: status, as: UTF8.self).split(separator: "\n")
    guard lines.contains(where: { $0.hasPrefix("Seccomp:") && $0.hasSuffix("2") }) else { return nil }
    var refused: [String] = []
    if facts == nil { refused.append("clone3") }
    if Capabilities.has("CAP_SYS_ADMIN"), (try? MountTree(filesystem: "tmpfs")) == nil { refused.append("fsopen") }
    if Capabilities.has("CAP_SYS_ADMIN"), clinux_pivot_is_refused() { refused.append("pivot_root") }
    if clinux_keyrings_are_refused() { refused.append("keyctl") }
    return Finding(
      subject: "system calls",
      text: refused.isEmpty
        ? "are filtered, and what it takes is let through"
        : "\(refused.joined(separator: ", ")) refused by the container's seccomp filter",
      isGood: refused.isEmpty, isNeeded: true,
      mend: refused.isEmpty ? nil : "\(engine) run --security-opt seccomp=unconfined …")
  }

  /// Who may not mount a proc needs one without covers in sight. Who may makes one: see `showKernel` of the stage.
  private func kernelInSight(_ facts: JSON?, _ engine: String) -> Finding? {
    guard ordinaryUser != nil, facts?["coversKernel"]?.boolValue ?? false else { return nil }
    return Finding(
      subject: "/proc and /sys", text: "are covered in parts, so that the kernel lets no user mount others",
      isGood: false, isNeeded: true,
      mend: "\(engine) run --security-opt \(engine == "podman" ? "unmask=ALL" : "systempaths=unconfined") …")
  }

  /// The option that gives a container ids enough for machines.
  static func ownIDs(_ engine: String) -> String {
    engine == "podman" ? "--userns=auto:size=262144" : "dockerd --userns-remap=USER with 262144 subordinate ids"
  }
}
