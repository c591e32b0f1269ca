import CLinux
import Glibc
import Linux
import StageProtocol

/// Nobody may trace this process or reach through its /proc folder while it stands between host and machine.
func hideFromOthers() throws(Failure) {
  try check(clinux_set_dumpable(false), "hide", "henge-stage")
}

/// Carries out a plan; returns only by an error, because at its end this process is the machine's process 1.
///
/// The outer child does what needs the host's rights. Its mounts are then copied into a namespace that belongs to the
/// machine, which makes the kernel lock their attributes: the machine's root cannot take `nodev` or `ro` off again.
func boot(_ bytes: [UInt8], userNamespace: UserNamespace, channel: Channel) throws(Failure) {
  let plan: StagePlan
  do {
    plan = try StagePlan(decoding: bytes)
  } catch {
    throw Failure("read", "the plan", "expected \(error.expected)")
  }
  _ = clinux_set_name("henge-\(plan.name)")
  // Modes in the plan are meant as they stand.
  umask(0)
  var setup = Setup(rootID: plan.rootID, userNamespace: userNamespace, channel: channel, mountPoint: plan.mountPoint)
  for operation in plan.operations {
    do throws(Failure) {
      try setup.perform(operation)
    } catch {
      throw error.inside(operation)
    }
  }
  try execute(plan, setup: setup)
}

/// Becomes the first candidate that is there.
private func execute(_ plan: StagePlan, setup: Setup) throws(Failure) {
  // Should the supervisor end, so does the machine; set last, because changing ids clears it.
  try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the supervisor")
  _ = setsid()
  if let console = setup.console {
    for standard in Int32(0)...2 { try check(dup2(console.raw, standard), "attach the console") }
  }
  umask(0o022)
  clinux_reset_signals()
  try check(clinux_close_range(3, true), "close descriptors")
  guard plan.sockets > 0 else {
    try setup.channel.send(.executing(clinux_monotonic_microseconds()))
    throw becomeInit(plan)
  }
  // They belong where the channel is, which goes elsewhere until it closes on exec.
  let channel = Channel(Descriptor(adopting: try check(fcntl(setup.channel.socket.raw, F_DUPFD_CLOEXEC, 128), "move")))
  try channel.send(.executing(clinux_monotonic_microseconds()))
  for index in 0..<Int32(plan.sockets) { dup2(StageDescriptor.sockets + index, 3 + index) }
  channel.report(becomeInit(plan))
  exit(1)
}

private func becomeInit(_ plan: StagePlan) -> Failure {
  var lastFailure: Failure?
  for candidate in plan.candidates {
    let result = withCStrings([candidate] + plan.arguments) { arguments in
      withCStrings(plan.environment) { environment in clinux_execute(candidate, arguments, environment) }
    }
    do throws(Failure) {
      try check(result, "execute", candidate)
    } catch {
      if error.errno == .noSuchFileOrDirectory, access(candidate, F_OK) == 0 {
        return Failure(
          "execute", candidate, "the interpreter or loader that it names is not there",
          advice: "use an image that has all of its init")
      }
      // The first one that is there decides; that others are missing says nothing.
      if error.errno != .noSuchFileOrDirectory || lastFailure == nil { lastFailure = error }
    }
  }
  return lastFailure ?? Failure("execute", "an init", "the plan names none")
}

extension Failure {
  /// The same failure, naming the machine's path where the kernel call underneath knew only a descriptor.
  func inside(_ operation: SetupOperation) -> Failure {
    guard subject == nil || subject == ".", let path = operation.path else { return self }
    var failure = self
    failure.subject = path
    return failure
  }
}

extension SetupOperation {
  /// The path that the operation is about.
  var path: String? {
    switch self {
    case .directory(let path, _), .file(let path, _, _), .symbolicLink(let path, _), .remove(let path),
      .copy(_, let path, _),
      .linkIfThere(let path, _, _),
      .inaccessibleNodes(let path), .memory(let path, _, _, _, _), .device(let path, _, _), .notifySocket(let path),
      .unlayered(let path, _),
      .sealMount(let path), .watchedFolder(let path, _), .mount(_, let path, _, _), .console(let path, _),
      .mask(let path):
      path
    case .bind(let bind): bind.path
    case .root(.directory(let path, _), _): path
    case .root(.overlay(_, .directory(let upper, _), _), _): upper
    case .hostname(let name): name
    default: nil
    }
  }
}
