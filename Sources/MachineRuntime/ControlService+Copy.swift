import Linux
import MachineStore
import StageProtocol
import Varlink

/// Copying into the machine and out of it: the supervisor starts the end that is in the machine, and waits.
extension Supervisor {
  /// Puts the methods of copying behind the control socket.
  func addCopyMethods(_ method: (String, @escaping (VarlinkCall, VarlinkResponder) throws -> Void) -> Void) {
    method("CopyTo") { [unowned self] call, responder in
      let path = call.parameters["path"]?.stringValue ?? ""
      try copy(CopyRequest(.into, paths: [path], options: Self.copyOptions(call)), call, responder)
    }
    method("CopyFrom") { [unowned self] call, responder in
      let paths = call.parameters["paths"]?.arrayValue?.compactMap(\.stringValue) ?? []
      try copy(CopyRequest(.outOf, paths: paths, options: Self.copyOptions(call)), call, responder)
    }
  }

  private static func copyOptions(_ call: VarlinkCall) -> CopyRequest.Options {
    let names = Set(call.parameters["options"]?.arrayValue?.compactMap(\.stringValue) ?? [])
    return CopyRequest.optionNames.reduce(into: []) { if names.contains($1.name) { $0.insert($1.option) } }
  }

  private func copy(_ request: CopyRequest, _ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    guard let leader else { throw Failure("copy", name.description, "it is \(phase.name)") }
    guard let stream = call.descriptors.first, call.descriptors.count == 1 else {
      throw Failure("copy", name.description, "one end of a pipe must come along", kind: .usage)
    }
    guard !request.paths.isEmpty, request.paths.allSatisfy({ !$0.isEmpty && !$0.utf8.contains(0) }) else {
      throw Failure("copy", name.description, "a path is missing or empty", kind: .usage)
    }
    let program = try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
    weak var started: CopyRun?
    let run = try CopyRun(request, stream: stream, leader: leader.process, program: program, on: loop) {
      [unowned self] result in
      let answer = {
        switch result {
        case .success(let result): responder.finish(result.json)
        case .failure(let failure): responder.fail(VarlinkError(failure))
        }
      }
      if request.direction == .into, started?.wasOrderly == false {
        sweep(request, answer)
      } else {
        answer()
      }
    }
    started = run
    responder.onHangUp = { [weak run] in run?.abandon(hasWritten: request.direction == .into) }
  }

  /// Removes what a killed process left in the machine, as far as there is still a machine.
  private func sweep(_ request: CopyRequest, _ completion: @escaping () -> Void) {
    do {
      guard let leader else { return completion() }
      var request = request
      request.direction = .sweep
      let program = try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
      let run = try CopyRun(request, stream: nil, leader: leader.process, program: program, on: loop) { _ in
        completion()
      }
      // Not for longer than anybody waits for an error.
      run.abandon(hasWritten: true)
    } catch {
      completion()
    }
  }
}

extension CopyResult {
  var json: JSON {
    [
      "entries": JSON(entries), "bytes": JSON(bytes), "complete": .bool(isComplete),
      "notes": JSON(notes.prefix(16).map { printable($0, limit: 200) }),
    ]
  }
}
