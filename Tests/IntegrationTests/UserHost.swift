import Glibc
import Linux
import Testing
import Varlink

// Ordinary users of a host that has them only for the test: account files of its own over `/etc`, in mount namespaces
// that go with the programs in them. Nothing of the real host's changes.

/// A host with a few ordinary users, each with a delegated control group and the ids that the test gives them.
final class UserHost: Sendable {
  let sandbox: Sandbox
  let users: [TestUser]
  /// Copies of the programs: a checkout may lie where no user may look.
  var programs: String { "\(sandbox.folder)/programs" }

  /// - Parameter ids: for each user how many subordinate ids.
  init(_ sandbox: Sandbox, ids: [UInt32]) throws {
    self.sandbox = sandbox
    // Ids beyond those of machines of the host's root, and others for every run of the tests.
    let base = 0x7000_0000 + UInt32(getpid() % 256) * 0x10_0000
    users = ids.enumerated().map { index, count in
      TestUser(
        folder: sandbox.folder, tag: sandbox.tag, name: "hengetest\(index)", uid: base + UInt32(index),
        subordinate: base + 0x1_0000 + UInt32(index) * 0x4_0000, count: count)
    }
    try check(chmod(sandbox.folder, 0o711), "open", sandbox.folder)
    let etc = "\(sandbox.folder)/etc-of-users"
    for path in [etc, programs] { try check(mkdir(path, 0o755), "make", path) }
    func accounts(_ file: String, _ lines: [String]) throws {
      try write((read("/etc/\(file)") ?? "") + lines.map { $0 + "\n" }.joined(), to: "\(etc)/\(file)")
    }
    try accounts("passwd", users.map { "\($0.name):x:\($0.uid):\($0.uid)::\($0.home):/bin/sh" })
    try accounts("group", users.map { "\($0.name):x:\($0.uid):" })
    for file in ["subuid", "subgid"] {
      try accounts(file, users.filter { $0.count > 0 }.map { "\($0.name):\($0.subordinate):\($0.count)" })
    }
    for program in ["hengectl", "henge-supervisor", "henge-stage", "henge-import"] {
      try runWell(["install", "-m", "0755", "\(Checkout.programs)/\(program)", programs])
    }
    for user in users { try user.settle() }
  }

  func cleanUp() {
    for user in users {
      for machine in names(in: "\(user.state)/machines") where !machine.hasPrefix(".") {
        _ = try? user.hengectl("terminate", machine, deadline: 20)
      }
    }
  }
}

/// One ordinary user.
struct TestUser: Sendable {
  let folder: String
  let tag: String
  let name: String
  let uid: UInt32
  /// The first subordinate id, of users and groups alike.
  let subordinate: UInt32
  let count: UInt32

  var home: String { "\(folder)/\(name)" }
  var runtime: String { "\(folder)/\(name)-run" }
  var state: String { "\(home)/.local/share/henge" }
  /// The delegated control group.
  var group: String {
    let own = Host.cgroup(getpid()) ?? "/"
    return (Host.cgroupMount ?? "") + (own == "/" ? "" : own) + "/\(tag)\(name)"
  }
  var ids: ClosedRange<UInt32> { subordinate...subordinate + max(count, 1) - 1 }

  /// Makes home and run-time folders and the control group, as a login and a system's administrator would.
  func settle() throws {
    for path in [home, runtime, group] {
      try check(mkdir(path, path == group ? 0o755 : 0o700), "make", path)
      try check(chown(path, uid, uid), "give away", path)
    }
    for file in (read("/sys/kernel/cgroup/delegate") ?? "").split(separator: "\n") {
      _ = chown("\(group)/\(file)", uid, uid)
    }
  }

  /// Runs a program as the user.
  ///
  /// - Parameters:
  ///   - input: a file for its standard input, opened by root.
  ///   - script: what root does first in the mount namespace that the program gets.
  ///   - isDelegated: whether it starts in the user's control group.
  ///   - runtimeFolder: whether it is told of the user's own.
  ///   - network: a process whose network namespace it runs in; nil for the host's own.
  func run(
    _ arguments: [String], view: HostView = .hybrid, input: String = "/dev/null", script: String = ":",
    isDelegated: Bool = true, runtimeFolder: Bool = true, network: Int32? = nil, deadline: Double = 120
  ) throws -> Outcome {
    let command = command(
      arguments, view: view, input: input, script: script, isDelegated: isDelegated, runtimeFolder: runtimeFolder)
    let place = network.map { ["nsenter", "-t", "\($0)", "-n"] } ?? []
    return try IntegrationTests.run(place + command, deadline: deadline)
  }

  /// hengectl as the user, on a terminal.
  func attach(_ arguments: String...) throws -> Attached {
    try Attached(command(["\(folder)/programs/hengectl"] + arguments, input: "/dev/stdin"), environment: [])
  }

  /// What runs a program as the user.
  private func command(
    _ arguments: [String], view: HostView = .hybrid, input: String, script: String = ":", isDelegated: Bool = true,
    runtimeFolder: Bool = true
  ) -> [String] {
    let prepare = """
      set -e
      mount -t overlay none -o "lowerdir=$1:/etc" /etc
      \(script)
      \(isDelegated ? "echo $$ >\"$2/cgroup.procs\"" : ":")
      \(view == .pure ? "mount -t cgroup2 none /sys/fs/cgroup" : ":")
      exec <"$4"
      uid=$3
      shift 4
      cd /
      exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- env -i "$@"
      """
    let environment =
      ["HOME=\(home)", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TERM=xterm"]
      + (runtimeFolder ? ["XDG_RUNTIME_DIR=\(runtime)"] : [])
    return [
      "unshare", "--mount", "--propagation", "private", "sh", "-c", prepare, "sh", "\(folder)/etc-of-users", group,
      "\(uid)", input,
    ] + environment + arguments
  }

  @discardableResult
  func hengectl(
    _ arguments: String..., view: HostView = .hybrid, input: String = "/dev/null", script: String = ":",
    isDelegated: Bool = true, runtimeFolder: Bool = true, deadline: Double = 120
  ) throws -> Outcome {
    try run(
      ["\(folder)/programs/hengectl"] + arguments, view: view, input: input, script: script, isDelegated: isDelegated,
      runtimeFolder: runtimeFolder, deadline: deadline)
  }

  /// Runs hengectl, which must succeed, and returns what it said.
  @discardableResult
  func succeed(
    _ arguments: String..., view: HostView = .hybrid, input: String = "/dev/null", deadline: Double = 120
  ) throws -> String {
    let outcome = try run(
      ["\(folder)/programs/hengectl"] + arguments, view: view, input: input, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  /// Imports a guest image into the user's own store.
  func image(_ name: String) throws { try succeed("import-tar", "-", name, input: try Checkout.archive(name)) }

  /// A running machine of the user's, with the ids that the host sees.
  func guest(_ name: String, view: HostView = .hybrid) throws -> Guest {
    let state = try hengectl("status", "--json", name, view: view).json()
    guard let leader = state["leader"]?.intValue.flatMap({ Int32(exactly: $0) }),
      let inner = Host.status(leader, "NSpid")?.split(separator: "\t").last, inner == "1",
      let base = Host.status(leader, "Uid")?.split(separator: "\t").first.flatMap({ UInt32($0) })
    else { throw Complaint("\(name) has no leader: \(state.compact)") }
    return Guest(leader: leader, uidBase: base, state: state)
  }

  /// Live processes of the user and of the user's machines.
  var processes: [Int32] {
    Host.processes.filter { process in
      guard let ids = Host.status(process, "Uid"), Host.status(process, "State")?.hasPrefix("Z") == false else {
        return false
      }
      return ids.split(separator: "\t").contains { UInt32($0).map { $0 == uid || self.ids.contains($0) } ?? false }
    }
  }
}

/// Runs a test on a host with ordinary users, and cleans up also when it fails.
func withUsers<Result>(_ purpose: String, ids: [UInt32], _ body: (UserHost) throws -> Result) throws -> Result {
  try withSandbox(purpose) { sandbox in
    let host = try UserHost(sandbox, ids: ids)
    defer { host.cleanUp() }
    return try body(host)
  }
}

/// The same for tests that wait for tasks.
func withUsers<Result>(
  _ purpose: String, ids: [UInt32], _ body: (UserHost) async throws -> Result
) async throws -> Result {
  try await withSandbox(purpose) { sandbox in
    let host = try UserHost(sandbox, ids: ids)
    defer { host.cleanUp() }
    return try await body(host)
  }
}

extension Trait where Self == ConditionTrait {
  /// For tests with ordinary users.
  static var needsUsers: Self {
    .enabled(
      if: findProgram("newuidmap") != nil && findProgram("setpriv") != nil && Host.cgroupMount != nil,
      "needs newuidmap (package uidmap), setpriv, and control groups of version 2")
  }
}
