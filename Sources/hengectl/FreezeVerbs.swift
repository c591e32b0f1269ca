import ArgumentParser
import MachineManager
import MachineSpec
import Varlink

struct Freeze: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "freeze", abstract: "Stop all processes of machines where they stand.",
    discussion: "They keep their memory and take no processor time. poweroff thaws a machine first.")

  @Argument(help: "The machines.") var names: [String]
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    for name in names { try tell(name, "Freeze", to: "freeze", says: "is frozen", json: json) }
  }
}

struct Thaw: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "thaw", abstract: "Let the processes of frozen machines go on.")

  @Argument(help: "The machines.") var names: [String]
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    for name in names { try tell(name, "Thaw", to: "thaw", says: "is thawed", json: json) }
  }
}

private func tell(_ text: String, _ method: String, to purpose: String, says: String, json: Bool) throws {
  let name = try MachineName(text)
  let state = try manager().ask(name, method, to: purpose)
  print(json ? state.pretty : "\(name) \(says)")
}
