import CLinux
import Linux
import Systemd
import Varlink

/// What is handed out to whoever looks into the machine or sits down at its console.
extension Supervisor {
  func addConsoleMethods(_ method: (String, @escaping (VarlinkCall, VarlinkResponder) throws -> Void) -> Void) {
    method("OpenLeader") { [unowned self] _, responder in
      guard let leader else { throw Failure("look into", name.description, "it is \(phase.name)") }
      responder.finish(["leader": JSON(leader.id)], passing: [leader.process.descriptor])
    }
    method("OpenConsole") { [unowned self] _, responder in
      guard let console else { throw Failure("attach to the console of", name.description, "it is \(phase.name)") }
      let (stream, log) = try console.open()
      responder.finish(
        ["logged": JSON(log.length)], passing: [stream, log.file] + [log.older].compactMap { $0 })
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
