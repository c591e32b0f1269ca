import CLinux
import Linux
import Systemd
import Varlink

/// What is handed out to whoever looks into the machine or sits down at its console.
extension Supervisor {
  func addConsoleMethods(_ method: (String, @escaping (VarlinkCall, VarlinkResponder) throws -> Void) -> Void) {
    method("OpenJournal") { [unowned self] _, responder in
      guard let leader else { throw Failure("read the journal of", name.description, "it is \(phase.name)") }
      _ = try FolderFetch(Self.journalFolders, leader: leader.process, program: try stageProgram(), on: loop) {
        [name] result in
        switch result {
        case .success(let folders):
          responder.finish(
            ["folders": JSON(folders.map(\.path))], passing: [leader.process.descriptor] + folders.map(\.tree))
        case .failure(let failure):
          responder.fail(
            VarlinkError(
              Failure("read the journal of", name.description, failure.description, kind: failure.kind)))
        }
      }
    }
    method("OpenConsole") { [unowned self] _, responder in
      guard let console else { throw Failure("attach to the console of", name.description, "it is \(phase.name)") }
      let (seat, stream, log) = try console.open()
      let answer: JSON = ["logged": JSON(log.length)]
      let descriptors = [stream, log.file] + [log.older].compactMap { $0 }
      guard responder.more else { return responder.finish(answer, passing: descriptors) }
      responder.send(answer, passing: descriptors)
      responder.onHangUp = { [weak console, weak seat] in
        if let seat { console?.drop(seat) }
      }
      seat.onEnd = { responder.finish() }
    }
    method("ResizeConsole") { [unowned self] call, responder in
      guard let columns = call.parameters["columns"]?.intValue.flatMap({ UInt16(exactly: $0) }),
        let rows = call.parameters["rows"]?.intValue.flatMap({ UInt16(exactly: $0) })
      else { throw Failure("resize", "the console", "the size is in characters, from 0 to 65535", kind: .usage) }
      console?.resize(columns: Int32(columns), rows: Int32(rows))
      responder.finish()
    }
  }
}
