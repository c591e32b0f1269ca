import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import Varlink

struct Units: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "units", abstract: "List the units of a running machine.",
    discussion: "Patterns are those of a shell: 'systemd-*' 'ngin?.service'.")

  @Argument(help: "The machine.") var name: String
  @Argument(help: "Only units whose names match one of these patterns.") var patterns: [String] = []
  @Flag(help: "Only those that failed; short for --state=failed.") var failed = false
  @Option(
    help: ArgumentHelp(
      "Only those in one of these states, of any kind: loaded, active, failed, running, dead … May be given again.",
      valueName: "state,…"))
  var state: [String] = []
  @Option(
    name: [.short, .long],
    help: ArgumentHelp(
      "Only those of these types: service, socket, timer, mount … May be given again.", valueName: "type,…"))
  var type: [String] = []
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let states = Set(list(state) + (failed ? ["failed"] : []))
    let types = list(type)
    let units = try manager().units(of: try MachineName(name)).filter { unit in
      func text(_ key: String) -> String { unit[key]?.stringValue ?? "" }
      if !states.isEmpty, states.isDisjoint(with: [text("load"), text("active"), text("sub")]) { return false }
      if !types.isEmpty, !types.contains(where: { text("name").hasSuffix(".\($0)") }) { return false }
      return patterns.isEmpty || patterns.contains { fnmatch($0, text("name"), 0) == 0 }
    }
    let sorted = units.sorted { ($0["name"]?.stringValue ?? "") < ($1["name"]?.stringValue ?? "") }
    if json {
      print(JSON.array(sorted).pretty)
      return
    }
    var table = Table("UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION")
    for unit in sorted {
      func text(_ key: String) -> String { unit[key]?.stringValue ?? "" }
      table.add(text("name"), text("load"), text("active"), text("sub"), text("description"))
    }
    let what = states.isEmpty ? "" : " that are \(states.sorted().joined(separator: " or "))"
    table.show(empty: "no units\(patterns.isEmpty && types.isEmpty ? "" : " of these")\(printable(what))")
  }

  private func list(_ words: [String]) -> [String] {
    words.flatMap { $0.split(separator: ",").map(String.init) }
  }
}
