import Glibc
import Linux
import Systemd

/// A command that is to run inside the machine.
struct ExecutionRequest {
  /// The program and its arguments.
  var command: [String]
  var user: String?
  var directory: String?
  var environment: [String] = []
  /// What standard input, output and error are; nil stands for the machine's own `/dev/null`.
  var streams: [Descriptor?] = [nil, nil, nil]
  /// The path of its terminal inside the machine.
  var terminal: String?
  /// Its terminal, open at both sides until it has ended. Its systemd resets the terminal of that path at the end, and
  /// the number must not have become another's by then: what was typed there would be thrown away. And when whoever
  /// asked for it goes away, it must be stopped and not be hung up: a getty that ends by itself is started again, and a
  /// systemd of version 247 that is to stop it just then turns in a circle for 90 s.
  var heldTerminal: Pty?
  /// Whether it is a session of the user's, made by PAM.
  var isSession = false
  /// A service that is there already and is started in its place, with its control group below `system.slice`.
  var existing: (unit: String, slice: String)?
  /// How long it may run, in microseconds.
  var timeout: UInt64?

  /// The unit that it becomes.
  func service(named unit: String) -> TransientService {
    // A session without a command is the user's own shell, as that system knows it: who knows the user is asked there.
    let line = command.isEmpty ? Self.loginShell(of: user ?? "root") : command
    var service = TransientService(name: unit, program: line.first ?? "", arguments: line)
    let shown = command.isEmpty ? "Shell of \(user ?? "root")" : command.joined(separator: " ")
    service.description = "Henge: " + printable(shown, limit: 200)
    service.streams = streams.map { $0.map { .descriptor($0.raw) } ?? .null }
    service.environment = environment
    service.terminal = terminal
    service.directory = directory
    service.user = user
    if isSession {
      service.user = user ?? "root"
      service.directory = directory ?? "-~"
      service.pamName = "login"
      service.endsMainFirst = true
      service.utmpIdentifier = terminal.map { String($0.dropFirst("/dev/".count)) }
    } else if user == nil {
      // What systemd sets for every user but not where none is named.
      service.environment = ["HOME=/root"] + environment
    }
    return service
  }

  private static func loginShell(of user: String) -> [String] {
    let script = #"entry=$(getent passwd "$1"); shell=${entry##*:}; exec "${shell:-/bin/sh}" -l"#
    return ["/bin/sh", "-c", script, "sh", user]
  }
}

/// How a command ended.
enum ExecutionResult {
  case exited(Int32)
  case signalled(Int32)
  /// It did not run, or not to its end; the code is what a shell would end with.
  case refused(code: Int32, Failure)
  /// What became of it is not known.
  case lost(Failure)
}
