import ArgumentParser
import Linux
import MachineManager
import MachineSpec

struct Enable: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "enable",
    abstract: "Have machines start with the host.",
    discussion: "On hosts with systemd: each becomes the service henge@NAME.service, which henge.target starts.")

  @Argument(help: "The machines.") var names: [String]
  @Flag(help: "Start them now as well.") var now = false

  func run() throws {
    let manager = try manager()
    let names = try names.map { try MachineName($0) }
    try manager.setEnabled(names, true)
    guard now else { return }
    for name in names where try manager.state(of: name) == nil {
      let state = try manager.start(name)
      print("\(name) is \(printable(state["state"]?.stringValue ?? "?", limit: 64))")
    }
  }
}

struct Disable: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "disable",
    abstract: "Have machines start with the host no more.",
    discussion: "One that runs goes on running.")

  @Argument(help: "The machines.") var names: [String]

  func run() throws {
    try manager().setEnabled(try names.map { try MachineName($0) }, false)
  }
}
