import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

/// How a start is waited for, and what is shown meanwhile.
struct Waiting: ParsableArguments {
  @Flag(name: .customLong("no-wait"), help: "Return when process 1 runs.") var noWait = false
  @Option(help: "Give up waiting after this many seconds; the machine goes on.") var timeout: Double?
  @Flag(help: "Print JSON.") var json = false

  /// Starts a machine, tells what happens, and ends as the boot ended.
  func start(_ name: MachineName, _ manager: MachineManager, overrides: [String]) throws {
    Terminal.progress("\(name): starting")
    let state = try manager.start(
      name, overrides: overrides, goal: noWait ? "executed" : "running", timeout: try milliseconds(timeout),
      isWatched: Terminal.isError, progress: show(name))
    try finish(name, state, json: json, verb: "is")
  }
}

/// Shows the progress of a machine on a terminal.
func show(_ name: MachineName) -> (MachineManager.Progress) -> Void {
  { progress in
    Terminal.warn(progress.warnings)
    guard !progress.state.isEmpty else { return }
    var line = "\(name): \(progress.state)"
    if progress.units > 0 { line += ", \(progress.units) units up" }
    if let unit = progress.unit { line += ", \(unit)" }
    Terminal.progress(line)
  }
}

func milliseconds(_ seconds: Double?) throws -> Int? {
  guard let seconds else { return nil }
  guard seconds >= 0, seconds < 1e9 else { throw ValidationError("--timeout takes seconds from 0 on") }
  return Int(seconds * 1000)
}

/// Says what became of a machine; a degraded one is a failure with its units.
func finish(_ name: MachineName, _ state: JSON, json: Bool, verb: String) throws {
  Terminal.clearProgress()
  let word = state["state"]?.stringValue ?? "?"
  if json {
    print(state.pretty)
  } else {
    print("\(name) \(verb) \(printable(word, limit: 64))")
  }
  guard word == "degraded" else { return }
  let failed = state["failedUnits"]?.arrayValue ?? []
  for unit in failed { Terminal.complain(plain: failedUnit(unit)) }
  throw Failure(
    "boot", name.description, "\(failed.count) unit\(failed.count == 1 ? "" : "s") failed",
    advice: "'hengectl status \(name)' shows them", kind: .degraded)
}

struct Start: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "start",
    abstract: "Start a machine and wait until its systemd has finished booting.",
    discussion: "Ends with 0 for a machine that is running, and with 3 for one whose units failed, which are listed.")

  @Argument(help: "The machine.") var name: String
  @OptionGroup var settings: Settings
  @OptionGroup var waiting: Waiting

  func run() throws {
    try waiting.start(try MachineName(name), try manager(), overrides: settings.assignments)
  }
}

/// The verbs that end a machine, or nearly.
private func end(_ text: String, _ method: String, purpose: String, timeout: Double?, json: Bool) throws {
  let name = try MachineName(text)
  let state = try manager().ask(
    name, method, to: purpose, timeout: try milliseconds(timeout), progress: show(name))
  try finish(name, state, json: json, verb: "is")
}

struct PowerOff: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "poweroff", abstract: "Stop machines in good order, and wait until nothing of them is left.",
    discussion: "What has not stopped by TimeoutStopSec= is killed.", aliases: ["stop"])

  @Argument(help: "The machines.") var names: [String]
  @Option(help: "Give up waiting after this many seconds.") var timeout: Double?
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    for name in names { try end(name, "PowerOff", purpose: "power off", timeout: timeout, json: json) }
  }
}

struct Reboot: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reboot",
    abstract: "Stop a machine in good order and start it again, the same machine.")

  @Argument(help: "The machine.") var name: String
  @Option(help: "Give up waiting after this many seconds.") var timeout: Double?
  @Flag(help: "Print JSON.") var json = false

  func run() throws { try end(name, "Reboot", purpose: "reboot", timeout: timeout, json: json) }
}

struct Terminate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "terminate",
    abstract: "Kill everything of machines at once, and wait until nothing of them is left.")

  @Argument(help: "The machines.") var names: [String]
  @Option(help: "Give up waiting after this many seconds.") var timeout: Double?
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    for name in names { try end(name, "Terminate", purpose: "terminate", timeout: timeout, json: json) }
  }
}

struct Kill: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kill",
    abstract: "Send a signal to a machine's leader, or to all of its processes.")

  enum Whom: String, ExpressibleByArgument, CaseIterable { case leader, all }

  @Argument(help: "The machine.") var name: String
  @Option(help: "Who gets it.") var killWhom = Whom.all
  @Option(name: [.short, .customShort("S"), .long], help: "The signal, by name or number.") var signal = "SIGTERM"

  func run() throws {
    try manager().kill(
      try MachineName(name), whom: killWhom.rawValue, signal: try Signal(signal).number)
  }
}
