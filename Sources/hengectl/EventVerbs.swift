import ArgumentParser
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct Events: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events",
    abstract: "Show what happened to machines lately, one line a change.",
    discussion: "What is known of a machine is bounded; what is known of one that was removed goes last of all.")

  @Argument(help: "Only those of these machines.") var names: [String] = []
  @Flag(name: .shortAndLong, help: "Go on with what happens from now on.") var follow = false
  @Option(name: .shortAndLong, help: "Show only so many of the last ones; with --follow 10 without it.") var lines: Int?
  @Flag(help: "Print JSON, an object a line.") var json = false

  func run() throws {
    let store = try manager().store
    // Names of machines that are gone will do, but only those that a machine can have.
    let names = try names.map { try MachineName($0).description }
    if let lines, lines < 0 { throw ValidationError("--lines takes numbers from 0 on") }
    let follower = follow ? try EventFollower(store) : nil
    let count = lines ?? (follow ? 10 : Int.max)
    if count > 0 { for event in try store.events.recent(names, count: count) { try show(event) } }
    while let follower, let events = try follower.next(output: 1) {
      for event in events where names.isEmpty || names.contains(where: { event.concerns($0) }) { try show(event) }
    }
  }

  private func show(_ event: MachineEvent) throws {
    Terminal.line(json ? event.json.compact : text(event))
  }

  private func text(_ event: MachineEvent) -> String {
    var line = "\(date(event.time / 1_000_000))  \(printable(event.machine, limit: 64))  "
    line += printable(event.event, limit: 64)
    for entry in event.details.entries.prefix(20) {
      let value =
        switch entry.value {
        case .string(let text): text
        case .array(let elements): elements.compactMap(\.stringValue).joined(separator: ",")
        default: entry.value.compact
        }
      let shown = printable(value, limit: 300)
      line += " \(printable(entry.key, limit: 32))=\(shown.contains(" ") || shown.isEmpty ? "'\(shown)'" : shown)"
    }
    return line
  }
}
