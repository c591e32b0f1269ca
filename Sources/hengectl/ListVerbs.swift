import ArgumentParser
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct List: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List all machines and what they are doing.")

  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let entries = try manager().list()
    if json {
      print(JSON.array(entries.map(\.json)).pretty)
      return
    }
    var table = Table("MACHINE", "STATE", "IMAGE", "UID RANGE", "LEADER", "SINCE")
    for entry in entries {
      let source: String
      switch entry.record?.root {
      case .inPlace(let path): source = path
      default: source = entry.record.map { $0.image ?? "-" } ?? "(record damaged)"
      }
      table.add(
        entry.name.description, entry.state, source, entry.record?.range.shown ?? "-",
        entry.leader.map { "\($0)" } ?? "-", entry.started.map(date) ?? "-")
    }
    table.show(empty: "no machines; 'hengectl create IMAGE NAME' makes one")
  }
}

extension MachineManager.Entry {
  var json: JSON {
    var object: JSON = ["name": .string(name.description), "state": .string(state)]
    if let record {
      object["uuid"] = .string(record.uuid.description)
      object["image"] = JSON(record.image)
      object["uidBase"] = JSON(record.range.base)
      object["uidCount"] = JSON(record.range.count)
      object["created"] = JSON(record.created)
    }
    if let error { object["error"] = .string(error) }
    object["leader"] = leader.map { JSON($0) } ?? .null
    object["started"] = started.map { JSON($0) } ?? .null
    return object
  }
}

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "status", abstract: "Show what a machine is doing.")

  @Argument(help: "The machine.") var name: String
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let manager = try manager()
    let name = try MachineName(name)
    let record = try manager.store.record(of: name)
    let state = try manager.state(of: name)
    if json {
      var object = record.json
      object["state"] = "stopped"
      if case .object(let known)? = state { for entry in known.entries { object[entry.key] = entry.value } }
      print(object.pretty)
      return
    }
    show(name, record, state)
  }

  private func show(_ name: MachineName, _ record: MachineRecord, _ state: JSON?) {
    func line(_ label: String, _ value: String) {
      print(String(repeating: " ", count: max(0, 10 - label.count)) + label + ": " + value)
    }
    func text(_ key: String) -> String? { state?[key]?.stringValue.map { printable($0, limit: 200) } }
    print("\(name)(\(record.uuid))")
    let since = state?["started"]?.intValue.flatMap { UInt64(exactly: $0) }.map { " since \(date($0))" } ?? ""
    line("State", Terminal.colour(text("state") ?? "stopped") + since)
    if let status = text("status"), !status.isEmpty { line("Says", status) }
    if let restarts = state?["restarts"]?.intValue, restarts > 0 { line("Restarts", "\(restarts)") }
    switch record.root {
    case .layers(let image, _): line("Image", "\(image) (layers with mapped ids, what changes lies above)")
    case .copy(let image): line("Image", "\(image) (a copy of the machine's own)")
    case .inPlace(let path): line("Directory", printable(path))
    }
    line("UID range", record.range.shown)
    if let leader = state?["leader"]?.intValue { line("Leader", "\(leader)") }
    if let supervisor = state?["supervisor"]?.intValue { line("Supervisor", "\(supervisor)") }
    if let group = text("cgroup") { line("Cgroup", group) }
    if let network = text("network") { line("Network", network) }
    for bind in state?["binds"]?.arrayValue ?? [] {
      func part(_ key: String) -> String { printable(bind[key]?.stringValue ?? "", limit: 200) }
      let way = bind["readOnly"]?.boolValue == true ? " (read-only)" : ""
      line("Bound", "\(part("source")) at \(part("path"))\(way)")
    }
    if let bus = text("bus") { line("Guest bus", bus) }
    let failed = state?["failedUnits"]?.arrayValue ?? []
    if !failed.isEmpty { line("Failed", "\(failed.count) unit\(failed.count == 1 ? "" : "s")") }
    for unit in failed { print(failedUnit(unit)) }
  }
}

/// A failed unit and the end of its journal, for the terminal.
func failedUnit(_ unit: JSON) -> String {
  let name = printable(unit["name"]?.stringValue ?? "?", limit: 256)
  let what = printable(unit["description"]?.stringValue ?? "", limit: 200)
  let lines = (unit["lines"]?.arrayValue ?? []).prefix(10).compactMap(\.stringValue)
  return (["  \(name) - \(what)"] + lines.map { "      \(printable($0, limit: 300))" }).joined(separator: "\n")
}

struct Show: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show a machine's properties, or the spec that counts for it.")

  @Argument(help: "The machine.") var name: String
  @Flag(help: "Print the effective spec, all files together.") var spec = false
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let manager = try manager()
    let name = try MachineName(name)
    let record = try manager.store.record(of: name)
    if spec {
      let (effective, diagnostics) = try manager.store.spec(of: name)
      Terminal.warn(diagnostics.map(\.description))
      print(json ? JSON.object(["spec": .string(effective.text)]).pretty : effective.text)
      return
    }
    var object = record.json
    object["state"] = "stopped"
    if case .object(let known)? = try manager.state(of: name) {
      for entry in known.entries { object[entry.key] = entry.value }
    }
    if json {
      print(object.pretty)
      return
    }
    guard case .object(let properties) = object else { return }
    for entry in properties.entries {
      switch entry.value {
      case .string(let text): print("\(entry.key)=\(printable(text))")
      case .null: break
      default: print("\(entry.key)=\(entry.value.compact)")
      }
    }
  }
}
