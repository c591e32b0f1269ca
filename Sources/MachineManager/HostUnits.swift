import Glibc
import Linux
import MachineSpec
import MachineStore

/// Machines as services of the host's systemd: `henge@NAME.service`, which `henge.target` starts with the host.
extension MachineManager {
  private static let systemctl = "/usr/bin/systemctl"

  /// The service that a machine is to the host's systemd.
  public static func service(of name: MachineName) -> String { "henge@\(name).service" }

  /// Makes machines start with the host, or no more.
  ///
  /// - Parameters:
  ///   - names: the machines.
  ///   - isEnabled: whether they start with the host.
  /// - Throws: `Failure` on a host without systemd, or whose systemd refuses.
  public func setEnabled(_ names: [MachineName], _ isEnabled: Bool) throws(Failure) {
    let verb = isEnabled ? "enable" : "disable"
    for name in names where isEnabled && !store.exists(name) { throw Failure.noSuchMachine(name) }
    let services = names.map(Self.service)
    let subject = names.map(\.description).joined(separator: " ")
    guard hasSystemd else {
      throw Failure(
        verb, subject, "this host's process 1 is no systemd", advice: "have its init run 'hengectl start'",
        kind: .refused)
    }
    guard isInUsualPlaces else {
      throw Failure(
        verb, subject, "it is not in the usual place, where a service of the host's would look for it",
        advice: "unset HENGE_CONFIG_DIR, HENGE_STATE_DIR and HENGE_RUNTIME_DIR", kind: .refused)
    }
    let result = try systemctl([verb] + (isEnabled ? ["henge.target"] : []) + services)
    guard result.exit == .exited(0) else {
      throw Failure(verb, subject, result.line, advice: "'make install' puts the units in place", kind: .refused)
    }
  }

  /// Whether a machine starts with the host.
  public func isEnabled(_ name: MachineName) -> Bool {
    let link = "henge.target.wants/\(Self.service(of: name))"
    var status = stat()
    return unitFolders.contains { lstat("\($0)/\(link)", &status) == 0 }
  }

  private var unitFolders: [String] {
    guard isUsers else { return ["/etc/systemd/system"] }
    let home = getenv("HOME").map { String(cString: $0) } ?? ""
    let own = getenv("XDG_CONFIG_HOME").map { String(cString: $0) } ?? "\(home)/.config"
    return ["\(own)/systemd/user", "/etc/systemd/user"]
  }

  /// Whether it is the manager of a user that our machines belong to.
  private var isUsers: Bool { ordinaryUser != nil }

  private var hasSystemd: Bool { access("/run/systemd/system", F_OK) == 0 && access(Self.systemctl, X_OK) == 0 }

  /// A service gets none of our environment.
  private var isInUsualPlaces: Bool {
    store.places == (try? Places.usual(isRoot: !isUsers))
  }

  /// Whether a start is the host's systemd's to do: the machine is its service, and is to be started as it is.
  func startsAsService(_ name: MachineName, overrides: [String]) -> Bool {
    overrides.isEmpty && isHostsService(name)
  }

  /// Whether it is this machine, and not another installation's of the same name, that starts with the host.
  func isHostsService(_ name: MachineName) -> Bool { hasSystemd && isInUsualPlaces && isEnabled(name) }

  /// Starts a machine as a service; it is told what comes of it when process 1 runs.
  ///
  /// - Throws: `Failure` with the supervisor's own words.
  func startService(_ name: MachineName) throws(Failure) {
    let service = Self.service(of: name)
    // Not `start`: a supervisor that has just let go of the machine may still be ending, and starting what runs is nothing.
    let result = try systemctl(["restart", service])
    guard result.exit != .exited(0) else { return }
    // What the supervisor said last, and how it ended, the service manager knows.
    let said = try systemctl(["show", "--property=StatusText", "--value", service]).line
    let code = try systemctl(["show", "--property=ExecMainStatus", "--value", service]).line
    guard !said.isEmpty, let number = Int32(code), number != 0 else {
      throw Failure("start", name.description, result.line, advice: "systemctl status \(service)")
    }
    throw Failure(line: said, kind: Failure.Kind(rawValue: number) ?? .failed)
  }

  /// Runs systemctl to its end.
  ///
  /// - Returns: how it ended, and the last line that it said.
  private func systemctl(_ arguments: [String]) throws(Failure) -> (exit: ProcessExit?, line: String) {
    let run = try startSystemctl(arguments)
    let text = try run.output.readAll(limit: 65536, subject: "the answer of systemctl")
    let exit = try run.process.reap(wait: true)
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    return (exit, lines.last.map(String.init) ?? "")
  }

  /// A function of its own, so that our copy of the program's end is closed when it returns, and reading ends.
  private func startSystemctl(_ arguments: [String]) throws(Failure) -> (process: Pidfd, output: Descriptor) {
    let output = try SocketPair(packets: false)
    // What leads a user's systemctl to the user's manager.
    let names = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME", "XDG_CONFIG_HOME"]
    let kept = names.compactMap { (key: String) -> String? in
      getenv(key).map { "\(key)=\(String(cString: $0))" }
    }
    let request = ProcessRequest(
      .path(Self.systemctl),
      arguments: ["systemctl", "--no-ask-password", "--quiet"] + (isUsers ? ["--user"] : []) + arguments,
      environment: kept + ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
      descriptors: [nil, output.second, output.second])
    return (try request.start().process, output.first)
  }
}
