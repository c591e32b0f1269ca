import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import Varlink

/// Whether what runs inside gets a terminal.
struct TerminalChoice: ParsableArguments {
  @Flag(
    inversion: .prefixedNo,
    help: "Whether the command has a terminal of the machine; without either, when our input and output are one.")
  var pty: Bool?

  var wanted: Bool { pty ?? (isatty(0) == 1 && isatty(1) == 1) }
}

/// Runs something inside a machine with our streams or our terminal, and ends as it ends.
private func execute(
  _ text: String, _ parameters: JSON, method: String = "Execute", pty: Bool, direct: Bool = false, canLeave: Bool
) throws -> Never {
  // A standard stream that is closed must not become the number of something of ours.
  for number in Int32(0)...2 where fcntl(number, F_GETFD) < 0 { _ = open("/dev/null", O_RDWR) }
  let name = try MachineName(text)
  let manager = try manager()
  var parameters = parameters
  var end: MachineManager.ExecutionEnd?
  if pty {
    let size = TerminalSession.size
    parameters["terminal"] = ["columns": JSON(size.columns), "rows": JSON(size.rows)]
    // What the operator names counts more.
    if let environment = parameters["environment"]?.arrayValue, let term = getenv("TERM") {
      parameters["environment"] = .array([.string("TERM=" + String(cString: term))] + environment)
    }
    end = try manager.execute(
      name, method, parameters,
      terminal: { controller, client in
        let session = try TerminalSession(canLeave: canLeave)
        return try !session.run(with: controller, until: client)
      })
  } else {
    var streams = try StandardStreams(direct: direct)
    parameters["streams"] = JSON(streams.words)
    end = try manager.execute(
      name, method, parameters, passing: streams.descriptors, sent: { streams.run(until: $0) })
  }
  if let message = end?.message { Terminal.complain(printable(message)) }
  exit(end?.code ?? 0)
}

struct Exec: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "Run a command in a machine, as a service of its own systemd.",
    discussion: """
      It has our standard streams, or a terminal of the machine's where we have one, and ends with the command's own \
      exit code: 128 and the number for a signal, 127 for a program that is not there, 126 for one that could not be \
      run, 124 when the time was over. A program's name without a slash is searched for by the machine.
      """)

  @Option(help: "The user to run as, by name or number; root without it.") var user: String?
  @Option(help: "The working directory in the machine; / without it.") var workdir: String?
  @Option(
    name: .customLong("env"), parsing: .singleValue,
    help: ArgumentHelp("A variable of its environment.", valueName: "name=value"))
  var environment: [String] = []
  @OptionGroup var terminal: TerminalChoice
  @Flag(
    help: """
      Give it our pipes themselves, at their full speed. What in the machine keeps one open keeps its other end waiting, \
      even when the command has ended or its time was over.
      """)
  var direct = false
  @Option(help: "Stop it after this many seconds, and end with 124.") var timeout: Double?
  @Argument(help: "The machine.") var name: String
  @Argument(parsing: .postTerminator, help: "The command and its arguments.") var command: [String] = []

  func run() throws {
    guard !command.isEmpty else { throw ValidationError("no command is given") }
    if let bad = environment.first(where: { !$0.contains("=") || $0.hasPrefix("=") }) {
      throw ValidationError("--env takes NAME=VALUE, not '\(bad)'")
    }
    var parameters: JSON = [
      "command": JSON(command), "user": JSON(user), "directory": JSON(workdir), "environment": JSON(environment),
    ]
    if let timeout {
      guard timeout >= 0, timeout < 1e9 else { throw ValidationError("--timeout takes seconds from 0 on") }
      parameters["timeout"] = JSON(Int(timeout * 1000))
    }
    guard !direct || terminal.pty != true else { throw ValidationError("--direct is for pipes, --pty for a terminal") }
    try execute(name, parameters, pty: terminal.wanted && !direct, direct: direct, canLeave: false)
  }
}

struct Shell: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shell",
    abstract: "Log in to a machine: the user's own shell, or a command, in a session made by PAM.",
    discussion: "^] pressed three times within a second leaves it. Ends with the exit code of the shell.")

  @OptionGroup var terminal: TerminalChoice
  @Option(
    name: .customLong("env"), parsing: .singleValue,
    help: ArgumentHelp("A variable of its environment.", valueName: "name=value"))
  var environment: [String] = []
  @Argument(help: ArgumentHelp("The machine, with a user before it; root without one.", valueName: "[user@]machine"))
  var target: String
  @Argument(parsing: .postTerminator, help: "The command and its arguments.") var command: [String] = []

  func run() throws {
    var user = "root"
    var name = target
    if let at = target.lastIndex(of: "@") {
      user = String(target[..<at])
      name = String(target[target.index(after: at)...])
      guard !user.isEmpty else { throw ValidationError("no user stands before the @ of '\(target)'") }
    }
    try execute(
      name,
      [
        "command": JSON(command), "user": .string(user), "environment": JSON(environment), "session": true,
      ], pty: terminal.wanted, canLeave: true)
  }
}

struct Login: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "login", abstract: "Have a machine's getty ask for a name and a password, on a terminal of its own.",
    discussion: "^] pressed three times within a second leaves it.")

  @Argument(help: "The machine.") var name: String

  func run() throws { try execute(name, [:], method: "Login", pty: true, canLeave: true) }
}

/// The command line of a verb that takes a command, with `--` before that, so that options of ours may stand on both
/// sides of the machine's name and none is taken from the command.
func markingCommand(_ arguments: [String]) -> [String] {
  guard let verb = arguments.first, ["exec", "shell"].contains(verb) else { return arguments }
  let valued = ["--user", "--workdir", "--env", "--timeout"]
  var index = 1
  var hasName = false
  while index < arguments.count {
    let word = arguments[index]
    if word == "--" { return arguments }
    if word.hasPrefix("-") {
      index += valued.contains(word) ? 2 : 1
    } else if !hasName {
      hasName = true
      index += 1
    } else {
      return arguments[..<index] + ["--"] + arguments[index...]
    }
  }
  return arguments
}
