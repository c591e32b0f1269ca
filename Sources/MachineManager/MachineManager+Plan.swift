import Glibc
import Linux
import MachineSpec
import MachineStore
import Varlink

extension MachineManager {
  /// What a start would do: computed by the program that would do it.
  ///
  /// - Returns: lists of lines: `host`, `network`, `stage`, `init`, `arguments`, `environment`, `warnings`.
  public func plan(_ name: MachineName, overrides: [String]) throws(Failure) -> JSON {
    guard store.exists(name) else { throw Failure.noSuchMachine(name) }
    return try askSupervisorProgram(["--plan", name.description] + overrides)
  }

  /// Runs the supervisor's program for an answer in JSON.
  func askSupervisorProgram(_ arguments: [String]) throws(Failure) -> JSON {
    let run = try startSupervisorProgram(arguments)
    let text = try run.output.readAll(limit: 16 << 20, subject: "the answer of henge-supervisor")
    let errors = try run.errors.readAll(subject: "the answer of henge-supervisor")
    let exit = try run.process.reap(wait: true)
    guard exit == .exited(0), let json = try? JSON(parsing: text) else {
      let said = String(decoding: errors, as: UTF8.self)
      let line = said.split(separator: "\n").last.map(String.init) ?? "it gave no answer"
      let code = if case .exited(let status)? = exit { status } else { Int32(1) }
      let prefix = "henge-supervisor: "
      throw Failure(
        line: line.hasPrefix(prefix) ? String(line.dropFirst(prefix.count)) : line,
        kind: Failure.Kind(rawValue: code) ?? .failed)
    }
    return json
  }

  /// A function of its own, so that our copies of the program's ends are closed when it returns, and reading ends.
  private func startSupervisorProgram(
    _ arguments: [String]
  ) throws(Failure) -> (process: Pidfd, output: Descriptor, errors: Descriptor) {
    let output = try SocketPair(packets: false)
    let errors = try SocketPair(packets: false)
    let request = ProcessRequest(
      .path(try programs.path(of: "henge-supervisor")), arguments: ["henge-supervisor"] + arguments,
      environment: store.places.environment + userManager + ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
      descriptors: [nil, output.second, errors.second])
    return (try request.start().process, output.first, errors.first)
  }
}
