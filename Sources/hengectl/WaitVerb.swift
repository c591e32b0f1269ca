import ArgumentParser
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct Wait: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wait",
    abstract: "Wait until a machine is running, or stopped, or a unit of it is active.",
    discussion: """
      Ends with 3 when the machine comes up degraded, with 1 when it stops, or the unit fails, before that, and with 124 \
      when the time is over. A unit without a suffix is a service.
      """)

  @Argument(help: "The machine.") var name: String
  @Option(
    name: .customLong("for"),
    help: ArgumentHelp("What to wait for: running, stopped, or a unit.", valueName: "running|stopped|unit"))
  var goal = "running"
  @Option(help: "Give up after this many seconds.") var timeout: Double?
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let manager = try manager()
    let name = try MachineName(name)
    guard goal == "running" || goal == "stopped" else { return try waitForUnit(name, manager) }
    if goal == "stopped", try manager.connect(name) == nil {
      print(json ? JSON.object(["name": .string(name.description), "state": "stopped"]).pretty : "\(name) is stopped")
      return
    }
    let state = try manager.ask(
      name, "Wait", ["goal": .string(goal)], to: "wait for", timeout: try milliseconds(timeout), progress: show(name))
    try finish(name, state, json: json, verb: "is")
  }

  private func waitForUnit(_ name: MachineName, _ manager: MachineManager) throws {
    let unit = goal.contains(".") ? goal : "\(goal).service"
    let state = try manager.wait(forUnit: unit, of: name, timeout: try milliseconds(timeout))
    if json {
      print(state.pretty)
    } else {
      let word = state["active"]?.stringValue ?? "active"
      // One that did what it was there for is not there any more.
      print("\(printable(unit, limit: 255)) of \(name) is \(word == "inactive" ? "done" : printable(word, limit: 32))")
    }
  }
}
