import Linux
import Systemd

/// One command inside the machine, from its start to its end.
final class Execution {
  let unit: String
  /// The path of the unit's object.
  let path: String
  let machine: String
  private(set) var request: ExecutionRequest
  private var completion: ((ExecutionResult) -> Void)?

  private var state = ""
  private var job: UInt32 = 0
  private var jobResult: String?
  /// The last that is known of, as the machine numbers it.
  private(set) var mainProcess: UInt32 = 0
  private var mainCode: Int32 = 0
  private var mainStatus: Int32 = 0
  private var result = ""
  /// What it is in a machine whose init takes no commands.
  var joined: JoinedExecution?
  /// Why it was stopped by us.
  var verdict: ExecutionResult?
  var isStopping = false
  /// The session that it was, when it was stopped, and that somebody may be just being started in.
  var abandoned: AbandonedSession?
  /// How often its systemd did not know of it.
  var misses = 0
  /// What waits for its end, or for the end of our patience.
  var sources: [EventLoop.Source] = []

  init(_ request: ExecutionRequest, unit: String, machine: String, _ completion: @escaping (ExecutionResult) -> Void) {
    self.request = request
    self.unit = unit
    self.machine = machine
    self.completion = completion
    path = TransientService.objectPath(of: unit)
  }

  var isEnded: Bool { completion == nil }

  /// Its control group, from the machine's on.
  var group: String { "system.slice/" + (request.existing.map { "\($0.slice)/" } ?? "") + unit }

  /// Closes our copies of its streams: the ends of pipes must be the command's alone.
  func releaseStreams() { request.streams = [] }

  func jobEnded(_ result: String) {
    if jobResult == nil { jobResult = result }
  }

  /// Takes what was told of the unit.
  ///
  /// - Returns: the result once it has ended.
  func take(_ change: Manager.UnitChange) -> ExecutionResult? {
    if let process = change.mainProcess, process > 0 { mainProcess = process }
    if let code = change.mainCode { mainCode = code }
    if let status = change.mainStatus { mainStatus = status }
    if let text = change.result { result = text }
    if let number = change.job { job = number }
    guard let state = change.activeState else { return nil }
    self.state = state
    // A change of the unit follows each end of a job. Before the job has ended, inactive means not yet begun.
    guard jobResult != nil, job == 0, state == "inactive" || state == "failed" else { return nil }
    return verdict ?? outcome
  }

  /// The program of which it is not sure whether it was executed. A program that ends at once is seen to end before it
  /// is seen to have been executed, and may end with the status that stands for one that is not there.
  var doubtful: String? {
    verdict == nil && mainCode == 1 && mainStatus == 203 && jobResult == "failed" ? request.command.first : nil
  }

  /// The result of a program that was executed.
  var ownResult: ExecutionResult { .exited(mainStatus) }

  /// The same of what was asked for after a new connection: what the jobs did meanwhile was not heard.
  func takeAnew(_ change: Manager.UnitChange) -> ExecutionResult? {
    if change.job == 0 { jobResult = jobResult ?? "unknown" }
    return take(change)
  }

  func end(_ result: ExecutionResult) {
    guard let completion else { return }
    self.completion = nil
    sources = []
    joined = nil
    request.streams = []
    request.heldTerminal = nil
    completion(result)
  }

  private var outcome: ExecutionResult {
    if result == "timeout", jobResult != "done" {
      return .lost(
        Failure("run a command in", machine, "the machine did not come to start it in time", kind: .timedOut))
    }
    // CLD_EXITED, CLD_KILLED, CLD_DUMPED.
    return switch mainCode {
    case 1: jobResult == "failed" ? startFailure ?? .exited(mainStatus) : .exited(mainStatus)
    case 2, 3: .signalled(mainStatus)
    default:
      .lost(
        Failure(
          "run a command in", machine,
          result.isEmpty || result == "success"
            ? "its systemd did not tell how it ended"
            : "its systemd could not start it: \(printable(result, limit: 100))"))
    }
  }

  /// What systemd ends with for a program when it fails before exec. Its numbers are `EXIT_…` of systemd.exec(5).
  private var startFailure: ExecutionResult? {
    func refused(_ code: Int32, _ reason: String) -> ExecutionResult {
      .refused(
        code: code,
        Failure("run '\(printable(request.command.first ?? "a shell", limit: 200))' in", machine, reason))
    }
    switch mainStatus {
    case 203: return refused(127, "there is no such program in the machine, or it cannot be executed")
    case 200 where request.directory != nil:
      return refused(126, "there is no directory '\(request.directory ?? "")' in the machine")
    case 216 where request.user != nil, 217 where request.user != nil:
      return refused(126, "there is no user '\(request.user ?? "")' in the machine")
    case 224 where request.isSession: return refused(126, "PAM in the machine refused the session")
    default: return nil
    }
  }
}
