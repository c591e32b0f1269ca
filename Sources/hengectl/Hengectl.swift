import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Rootless

/// The command line; verbs are machinectl's where machinectl has one.
///
/// Each verb has its `commandName` spelt out: left to the parser, the names of all of them would be read from their
/// types at every start, and that was two thirds of the time that `hengectl version` takes.
@main
struct Hengectl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hengectl",
    abstract: "Boots whole Linux systems, systemd included, inside user namespaces.",
    discussion: """
      Exit codes: 0 done; 1 failed; 2 usage; 3 the machine is up, but units of it failed; 4 no such machine or image; \
      5 refused by this host; 124 timed out.
      """,
    version: "henge \(hengeVersion)",
    groupedSubcommands: [
      CommandGroup(
        name: "Machine",
        subcommands: [
          List.self, Status.self, Show.self, Create.self, Run.self, Start.self, PowerOff.self, Reboot.self,
          Terminate.self, Kill.self, Wait.self, Freeze.self, Thaw.self, Remove.self, Rename.self, Clone.self,
          Enable.self, Disable.self, Events.self,
        ]),
      CommandGroup(
        name: "Inside",
        subcommands: [
          Exec.self, Shell.self, Login.self, ConsoleVerb.self, Journal.self, Units.self, CopyTo.self, CopyFrom.self,
          Bind.self, Unbind.self,
        ]),
      CommandGroup(name: "Resource", subcommands: [SetLimit.self, Top.self]),
      CommandGroup(name: "Network", subcommands: [Port.self]),
      CommandGroup(
        name: "Image",
        subcommands: [ListImages.self, ImageStatus.self, ImportFS.self, ImportTar.self, RemoveImage.self]),
      CommandGroup(name: "Help", subcommands: [Plan.self, Doctor.self, Version.self]),
    ])

  /// Ends with the exit code that the failure stands for; the parser's own errors are usage errors.
  static func main() {
    EarlyMove.beginForCommand()
    do {
      var command = try parseAsRoot(markingCommand(Array(CommandLine.arguments.dropFirst())))
      try command.run()
    } catch let failure as Failure {
      Terminal.fail(failure)
    } catch let error as SpecError {
      Terminal.complain(error.description)
      Glibc.exit(2)
    } catch {
      let code = exitCode(for: error)
      // Help and the version are "errors" too; what is none of the parser's is said as everything else is.
      if code == .success { exit(withError: error) }
      guard code.rawValue == ExitCode.validationFailure.rawValue else {
        Terminal.complain(printable("\(error)"))
        Glibc.exit(1)
      }
      Terminal.complain(usageLine(message(for: error), fullMessage(for: error)))
      Glibc.exit(2)
    }
  }
}

/// What the parser says about a command line, as one line like every other error; the help has the rest.
private func usageLine(_ message: String, _ full: String) -> String {
  // With line breaks: a list of values that are allowed.
  var words = message.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  if words.hasSuffix(".") { words.removeLast() }
  let said = printable(words.prefix(1).lowercased() + words.dropFirst(), limit: 400)
  let help = full.split(separator: "'").first { $0.hasPrefix("hengectl ") && $0.hasSuffix("--help") }
  return "\(said); '\(help ?? "hengectl --help")' shows what there is"
}

/// What every verb that acts on machines needs.
///
/// For an ordinary user this executes the program again, as root of the user's own namespace: files of machines belong
/// to ids that only that root may touch.
func manager() throws -> MachineManager {
  let places = try Places.current()
  if geteuid() != 0 { try enterParentNamespace(places) }
  return try MachineManager(places)
}

/// Becomes root of the user's own namespace: the one that the machine named on the command line is in, else any that is
/// there, else a new one.
func enterParentNamespace(_ places: Places) throws(Failure) -> Never {
  let words = Set(CommandLine.arguments)
  let supervisors = MachineStore(places).supervisors()
  let named = supervisors.filter { words.contains($0.name.description) }
  try ParentNamespace.enter(
    environment: places.environment + Places.loginEnvironment, residents: (named + supervisors).map(\.process))
}
