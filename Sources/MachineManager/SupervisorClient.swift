import CLinux
import Glibc
import Linux
import MachineSpec
import MachineStore
import Varlink

/// What a running machine's supervisor is asked.
extension MachineManager {
  /// What is told on the way to a goal.
  public struct Progress: Sendable {
    /// The state: `starting`, `booting`, `stopping` …
    public var state: String
    /// The unit that came up last.
    public var unit: String?
    /// How many units came up.
    public var units: Int
    /// What the machine's systemd says about itself.
    public var status: String
    /// Warnings of the plan.
    public var warnings: [String]

    init?(_ parameters: JSON) {
      let progress = parameters["progress"]
      warnings = parameters["warnings"]?.arrayValue?.compactMap(\.stringValue) ?? []
      if progress == nil || progress == .null, warnings.isEmpty { return nil }
      state = progress?["state"]?.stringValue ?? ""
      unit = progress?["unit"]?.stringValue
      units = progress?["units"]?.intValue.flatMap { Int(exactly: $0) } ?? 0
      status = progress?["status"]?.stringValue ?? ""
    }
  }

  /// Connects to the supervisor of a machine.
  ///
  /// - Returns: nil when the machine is stopped.
  /// - Throws: `Failure` when there is no such machine.
  public func connect(_ name: MachineName) throws(Failure) -> VarlinkClient? {
    guard store.exists(name) else { throw Failure.noSuchMachine(name) }
    guard try store.isRunning(name) else { return nil }
    do {
      let folder = try Descriptor.open(store.runtimeFolder(of: name), [.directory, .noFollow])
      return try client(folder.connectSocket("control"))
    } catch {
      // It went away, or has not come far enough, between the two looks.
      switch error.errno {
      case .noSuchFileOrDirectory, .connectionRefused:
        if try store.isRunning(name) {
          throw Failure("ask the supervisor of", name.description, "it is starting or stopping just now")
        }
        return nil
      default: throw error
      }
    }
  }

  private func client(_ socket: Descriptor) throws(Failure) -> VarlinkClient {
    VarlinkClient(descriptor: try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the connection"))
  }

  /// Connects, or says that the machine is not running.
  func connectRunning(_ name: MachineName, for method: String, to purpose: String) throws(Failure) -> VarlinkClient {
    guard let client = try connect(name) else {
      // Who wanted it to stop has what they wanted; who wanted something of it can have it after a start.
      let wantsStop = ["PowerOff", "Terminate"].contains(method)
      throw Failure(
        purpose, name.description, "it is not running", advice: wantsStop ? nil : "hengectl start \(name)")
    }
    return client
  }

  /// Starts a stopped machine.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - overrides: assignments that count more than its spec, for this start.
  ///   - goal: `executed` or `running`.
  ///   - timeout: in milliseconds; nil waits as long as it takes.
  ///   - isWatched: whether somebody looks at the progress: with an old systemd telling it costs the boot a little.
  ///   - progress: told what happens meanwhile.
  /// - Returns: the state at the goal.
  /// - Throws: `Failure`; nothing is left of the start then, unless the time was over.
  public func start(
    _ name: MachineName, overrides: [String] = [], goal: String = "running", timeout: Int? = nil,
    isWatched: Bool = false, progress: (Progress) -> Void = { _ in }
  ) throws(Failure) -> JSON {
    guard store.exists(name) else { throw Failure.noSuchMachine(name) }
    if startsAsService(name, overrides: overrides), try !store.isRunning(name) {
      try startService(name)
      if goal == "executed", let state = try? state(of: name) { return state }
      return try ask(name, "Wait", ["goal": .string(goal)], to: "wait for", timeout: timeout, progress: progress)
    }
    let supervisor = try startSupervisor(name)
    return try ask(
      try client(supervisor.connection), "Start",
      ["overrides": JSON(overrides), "goal": .string(goal), "progress": .bool(isWatched)], name: name,
      timeout: timeout, sent: { supervisor.giveStage(copying: try programs.path(of: "henge-stage")) },
      progress: progress)
  }

  /// A function of its own, so that our copies of the supervisor's ends are closed when it returns: the end of the
  /// supervisor must show as a hang-up.
  private func startSupervisor(_ name: MachineName) throws(Failure) -> StartedSupervisor {
    let pair = try SocketPair(packets: false)
    let ready = try SocketPair(packets: false)
    let stage = try Descriptor.emptyProgram()
    var request = ProcessRequest(
      .path(try programs.path(of: "henge-supervisor")), arguments: ["henge-supervisor", name.description],
      environment: store.places.environment + userManager + ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
      descriptors: [nil, nil, nil, pair.second, stage, ready.second])
    request.newSession = true
    _ = try request.start()
    return StartedSupervisor(connection: pair.first, stage: stage, ready: ready.first)
  }

  /// What leads a user's supervisor to the user's own service manager.
  var userManager: [String] {
    ordinaryUser == nil ? [] : getenv("XDG_RUNTIME_DIR").map { ["XDG_RUNTIME_DIR=\(String(cString: $0))"] } ?? []
  }

  /// What a supervisor's starter has in its hands.
  private final class StartedSupervisor {
    let connection: Descriptor
    private var stage: Descriptor?
    private var ready: Descriptor?

    init(connection: Descriptor, stage: Descriptor, ready: Descriptor) {
      self.connection = connection
      self.stage = stage
      self.ready = ready
    }

    /// Copies and seals the stage while the supervisor, on another processor, prepares what comes before it. A copy
    /// that comes to nothing is no failure: the supervisor takes only a sealed one, and else makes its own.
    func giveStage(copying path: String) {
      try? stage?.fillProgram(copying: path)
      // Who holds it last frees it, and that is not to be this program, on its way to its answer.
      stage = nil
      // The end of the stream is the word that it is done, also when this program is killed meanwhile.
      ready = nil
    }
  }

  /// Asks for something that takes its time, and waits for it.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - method: `PowerOff`, `Reboot`, `Terminate` or `Wait`.
  ///   - parameters: what the method takes.
  ///   - purpose: what it is called in an error.
  ///   - timeout: in milliseconds.
  ///   - progress: told what happens meanwhile.
  public func ask(
    _ name: MachineName, _ method: String, _ parameters: JSON = [:], to purpose: String, timeout: Int? = nil,
    progress: (Progress) -> Void = { _ in }
  ) throws(Failure) -> JSON {
    try ask(
      try connectRunning(name, for: method, to: purpose), method, parameters, name: name, timeout: timeout,
      progress: progress)
  }

  /// The units of a running machine.
  public func units(of name: MachineName) throws(Failure) -> [JSON] {
    let reply = try call(name, "ListUnits", [:], to: "list the units of")
    return reply["units"]?.arrayValue ?? []
  }

  /// Sends a signal to the leader (`leader`) or to every process (`all`) of a running machine.
  public func kill(_ name: MachineName, whom: String, signal: Int32) throws(Failure) {
    _ = try call(name, "Kill", ["whom": .string(whom), "signal": JSON(signal)], to: "signal")
  }

  func call(
    _ name: MachineName, _ method: String, _ parameters: JSON, passing descriptors: [Descriptor] = [],
    to purpose: String
  ) throws(Failure) -> JSON {
    let client = try connectRunning(name, for: method, to: purpose)
    do {
      return try client.call("io.henge.Machine.\(method)", parameters, passing: descriptors, timeout: 30000)
    } catch {
      throw explained(error, name)
    }
  }

  private func ask(
    _ client: VarlinkClient, _ method: String, _ parameters: JSON, name: MachineName, timeout: Int?,
    sent: () throws -> Void = {}, progress: (Progress) -> Void
  ) throws(Failure) -> JSON {
    // The deadline is for the whole, and each reply brings the client back here.
    let end = timeout.map { clinux_monotonic_microseconds() / 1000 + UInt64(max(0, $0)) }
    var state: JSON?
    do {
      try client.callMore("io.henge.Machine.\(method)", parameters, timeout: timeout, sent: sent) { reply in
        if let step = Progress(reply) { progress(step) }
        if let found = reply["state"], found != .null { state = found }
        if let end, state == nil, clinux_monotonic_microseconds() / 1000 >= end {
          throw VarlinkFailure.timedOut(method: method)
        }
        return true
      }
    } catch {
      throw explained(error, name)
    }
    guard let state else {
      throw Failure("wait for", name.description, "its supervisor gave no answer")
    }
    return state
  }

  func explained(_ error: any Error, _ name: MachineName) -> Failure {
    switch error {
    case let error as VarlinkError:
      guard error.name == "io.henge.Machine.Failed", let line = error.parameters["message"]?.stringValue else {
        return Failure("ask the supervisor of", name.description, error.description)
      }
      let code = error.parameters["code"]?.intValue.flatMap { Int32(exactly: $0) }
      return Failure(line: line, kind: code.flatMap(Failure.Kind.init) ?? .failed)
    case VarlinkFailure.timedOut:
      return Failure(
        "wait for", name.description, "the time was over", advice: "'hengectl status \(name)' shows how far it is",
        kind: .timedOut)
    case VarlinkFailure.hangUp:
      // What it left is cleared away now and not by whoever comes next.
      _ = try? store.isRunning(name)
      return Failure(
        "wait for", name.description, "its supervisor ended unexpectedly", advice: "'hengectl start \(name)' starts it")
    default: return Failure("ask the supervisor of", name.description, "\(error)")
    }
  }
}
