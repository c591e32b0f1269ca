import Glibc
import Linux
import Synchronization
import Testing
import Varlink

// A place for machines that no other test meets, and what is seen from inside of a machine.

/// Folders of our own for configuration, state and run time, and machines whose names no other test uses.
///
/// State lies on the disk, because a tmpfs carries no overlay of every kernel. `withSandbox` cleans up whatever comes.
final class Sandbox: Sendable {
  private static let counter = Atomic<Int>(0)

  /// Everything of the sandbox is below this folder.
  let folder: String
  /// What the names of all its machines begin with.
  let tag: String
  private let imported = Mutex<Set<String>>([])

  init(_ purpose: String) throws {
    let number = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
    tag = "t\(getpid())x\(number)-"
    folder = "/var/tmp/henge-test-\(getpid())-\(number)-\(purpose)"
    for path in [folder, configuration, state, runtime] { try check(mkdir(path, 0o700), "make", path) }
  }

  var configuration: String { "\(folder)/etc" }
  var state: String { "\(folder)/state" }
  var runtime: String { "\(folder)/run" }
  var environment: [String] {
    ["HENGE_CONFIG_DIR=\(configuration)", "HENGE_STATE_DIR=\(state)", "HENGE_RUNTIME_DIR=\(runtime)"]
  }

  /// A machine's full name: control groups of all installations on a host lie in one folder.
  func name(_ name: String) -> String { tag + name }

  /// Runs hengectl to its end.
  @discardableResult
  func hengectl(_ arguments: [String], view: HostView = .hybrid, deadline: Double = 120) throws -> Outcome {
    try start(arguments, view: view).wait(deadline: deadline)
  }

  @discardableResult
  func hengectl(_ arguments: String..., view: HostView = .hybrid, deadline: Double = 120) throws -> Outcome {
    try hengectl(arguments, view: view, deadline: deadline)
  }

  /// Runs hengectl, which must succeed, and returns what it said.
  @discardableResult
  func succeed(_ arguments: String..., view: HostView = .hybrid, deadline: Double = 120) throws -> String {
    let outcome = try hengectl(arguments, view: view, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  /// Starts hengectl and does not wait for it.
  func start(_ arguments: [String], view: HostView = .hybrid) throws -> RunningProgram {
    try RunningProgram(view.prefix + ["\(Checkout.programs)/hengectl"] + arguments, environment: environment)
  }

  /// Puts a guest image into the sandbox's store.
  ///
  /// Each is imported once per run of the tests, which syncs a file system; the sandboxes get hard links of what nobody
  /// ever writes to. Outside /usr they get copies: there are services that refuse a file of their own with two names.
  func image(_ name: String) throws {
    try imported.withLock { imported in
      guard imported.insert(name).inserted else { return }
      let store = try SharedImages.store(with: name)
      let images = "\(state)/images"
      mkdir(images, 0o700)
      let script = """
        set -e
        cp -al "$1/$3" "$2"
        for folder in etc home opt root srv var; do
          rm -rf "$2/$3/layer-0/$folder"
          cp -a "$1/$3/layer-0/$folder" "$2/$3/layer-0"
        done
        """
      try runWell(["sh", "-c", script, "sh", "\(store.state)/images", images, name])
    }
  }

  /// The machine as a place to run programs in, with the leader that the supervisor names and the host confirms.
  func guest(_ name: String, view: HostView = .hybrid) throws -> Guest {
    let state = try hengectl("status", "--json", name, view: view).json()
    guard let leader = state["leader"]?.intValue.flatMap({ Int32(exactly: $0) }) else {
      throw Complaint("\(name) has no leader: \(state.compact)")
    }
    // In the machine it is process 1, and it is in the machine's control group.
    guard let inner = Host.status(leader, "NSpid")?.split(separator: "\t").last, inner == "1" else {
      throw Complaint("\(leader) is not process 1 of a machine")
    }
    guard let base = state["uidBase"]?.intValue.flatMap({ UInt32(exactly: $0) }) else {
      throw Complaint("\(name) has no range of ids")
    }
    return Guest(leader: leader, uidBase: base, state: state)
  }

  /// What of this sandbox is there on the host.
  func snapshot() -> Snapshot { Snapshot(.sandbox(folder: folder, tag: tag)) }

  /// What is there that was not before, or the other way round. A process that has given its last answer has 5 s to
  /// end, and so has whoever lost the other end of its connection.
  func difference(from before: Snapshot) -> [String] {
    let end = now() + 5_000_000_000
    while true {
      let found = snapshot().difference(from: before)
      let ids = found.filter { $0.hasPrefix("+ process ") }.compactMap { Int32($0.split(separator: " ")[2]) }
      let moment = now()
      guard let id = ids.first, moment < end else { return found }
      guard let process = try? Pidfd(opening: id) else { continue }
      var poll = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
      Glibc.poll(&poll, 1, Int32((end - moment) / 1_000_000) + 1)
    }
  }

  /// Ends and removes what is left of the sandbox, without the help of the programs under test where they fail.
  func cleanUp() {
    let machines = names(in: "\(state)/machines")
    for machine in machines { _ = try? hengectl("terminate", machine, deadline: 20) }
    for group in snapshot().groups.sorted(by: >) {
      try? write("1", to: "\(group)/cgroup.kill")
      // A group is busy until its last process is reaped.
      for _ in 0..<200 where rmdir(group) < 0 && errno == EBUSY { pause(milliseconds: 10) }
    }
    for process in snapshot().processes {
      if let id = process.split(separator: " ").first.flatMap({ Int32($0) }) { kill(id, SIGKILL) }
    }
    Removals.begin(folder)
  }
}

/// Folders on their way out: on a disk that discards what is freed a tree takes its time, and no test needs to wait.
private enum Removals {
  private static let running = Mutex<[RunningProgram]?>(nil)

  /// Has the end of the tests wait for whatever is begun.
  static func prepare() {
    running.withLock { running in
      guard running == nil else { return }
      atexit { Removals.finish() }
      running = []
    }
  }

  static func begin(_ folder: String) {
    prepare()
    running.withLock { running in
      guard let removal = try? RunningProgram(["rm", "-rf", "--one-file-system", folder]) else { return }
      running = (running ?? []) + [removal]
    }
  }

  private static func finish() {
    for removal in running.withLock({ $0 }) ?? [] { _ = try? removal.wait(deadline: 3600) }
  }
}

/// The images that all sandboxes of this run share.
private enum SharedImages {
  private static let shared = Mutex<(sandbox: Sandbox, names: Set<String>)?>(nil)

  static func store(with name: String) throws -> Sandbox {
    try shared.withLock { shared in
      if shared == nil {
        shared = (try Sandbox("images"), [])
        // Handlers run in the reverse order: the one that waits for removals is there before this one.
        Removals.prepare()
        atexit { SharedImages.cleanUp() }
      }
      guard let sandbox = shared?.sandbox else { throw Complaint("no place for the images") }
      if shared?.names.contains(name) == false {
        try sandbox.succeed("import-tar", try Checkout.archive(name), name)
        shared?.names.insert(name)
      }
      return sandbox
    }
  }

  private static func cleanUp() { shared.withLock { $0?.sandbox.cleanUp() } }
}

/// Runs a test in a sandbox, and cleans up also when it fails.
func withSandbox<Result>(_ purpose: String, _ body: (Sandbox) throws -> Result) throws -> Result {
  let sandbox = try Sandbox(purpose)
  defer { sandbox.cleanUp() }
  return try body(sandbox)
}

/// The same for tests that wait for tasks.
func withSandbox<Result>(_ purpose: String, _ body: (Sandbox) async throws -> Result) async throws -> Result {
  let sandbox = try Sandbox(purpose)
  defer { sandbox.cleanUp() }
  return try await body(sandbox)
}

/// A running machine, entered as the host's root enters it and not through our programs.
struct Guest {
  let leader: Int32
  let uidBase: UInt32
  /// What `hengectl status --json` said.
  let state: JSON

  var uids: ClosedRange<UInt32> { uidBase...uidBase + 65535 }

  /// Runs a program of the machine's as its root.
  @discardableResult
  func run(_ arguments: String..., deadline: Double = 60) throws -> Outcome {
    try IntegrationTests.run(["nsenter", "-t", "\(leader)", "-a"] + arguments, deadline: deadline)
  }

  /// Runs a line of shell in the machine as its root.
  @discardableResult
  func shell(_ line: String, deadline: Double = 60) throws -> Outcome {
    try IntegrationTests.run(["nsenter", "-t", "\(leader)", "-a", "/bin/sh", "-c", line], deadline: deadline)
  }

  /// Runs a program that must succeed, and returns what it said.
  @discardableResult
  func succeed(_ arguments: String..., deadline: Double = 60) throws -> String {
    try runWell(["nsenter", "-t", "\(leader)", "-a"] + arguments, deadline: deadline)
  }
}
