import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Print what a start would do, step by step; nothing is done.")

  @Argument(help: "The machine.") var name: String
  @OptionGroup var settings: Settings
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let plan = try manager().plan(try MachineName(name), overrides: settings.assignments)
    func texts(_ key: String) -> [String] { plan[key]?.arrayValue?.compactMap(\.stringValue) ?? [] }
    Terminal.warn(texts("warnings"))
    if json {
      print(plan.pretty)
      return
    }
    func section(_ title: String, _ key: String) {
      print(title)
      for line in texts(key) { print("  \(printable(line, limit: 2000))") }
    }
    section("The supervisor, on the host:", "host")
    section("The machine's network:", "network")
    section("The stage, in namespaces of its own:", "stage")
    section("Then it becomes the first of these that is there:", "init")
    section("with the arguments:", "arguments")
    section("and the environment:", "environment")
  }
}

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    print(json ? JSON.object(["version": .string(hengeVersion)]).compact : "henge \(hengeVersion)")
  }
}

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Look at this host, and say what it lacks and which command mends it.",
    discussion: "Ends with 5 when something is missing that no machine can do without.")

  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let places = try Places.current()
    if geteuid() != 0 {
      do throws(Failure) {
        try enterParentNamespace(places)
      } catch {
        // What keeps the user out of it is what the findings are about.
        Terminal.complain(error.description)
      }
    }
    let findings = try MachineManager(places).examine()
    if json {
      print(JSON.array(findings.map(\.json)).pretty)
    } else {
      for finding in findings {
        let mark = finding.isGood ? "ok     " : finding.isNeeded ? "MISSING" : "lacking"
        print("\(mark)  \(finding.subject): \(printable(finding.text, limit: 300))")
        if let mend = finding.mend { print("         mend: \(mend)") }
      }
    }
    if findings.contains(where: { !$0.isGood && $0.isNeeded }) {
      throw Failure("run machines on", "this host", "something is missing", advice: "see above", kind: .refused)
    }
  }
}

extension MachineManager.Finding {
  var json: JSON {
    [
      "subject": .string(subject), "text": .string(text), "good": .bool(isGood), "needed": .bool(isNeeded),
      "mend": JSON(mend),
    ]
  }
}
