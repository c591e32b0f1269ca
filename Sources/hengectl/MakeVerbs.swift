import ArgumentParser
import CLinux
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

/// Settings of a machine's spec on the command line.
struct Settings: ParsableArguments {
  @Option(
    name: [.customShort("s"), .customLong("set")],
    help: ArgumentHelp("A setting of the spec, as in Hostname=web or Files.Bind=/srv.", valueName: "key=value"))
  var assignments: [String] = []
}

struct Create: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create",
    abstract: "Make a machine from an image, or of a directory.",
    discussion: "A machine made from an image costs nothing to make: what it changes lies above the image.")

  @Flag(help: "SOURCE is a directory that is used as it is.") var inPlace = false
  @Argument(help: "The image, or the directory.") var source: String
  @Argument(help: "The machine to make.") var name: String
  @OptionGroup var settings: Settings
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let name = try MachineName(name)
    let from: MachineSource = inPlace ? .inPlace(source) : .image(try ImageName(source))
    let made = try manager().create(name, from: from, settings: settings.assignments)
    Terminal.warn(made.warnings)
    print(json ? made.record.json.pretty : "made '\(name)' with the ids \(made.record.range.shown)")
  }
}

struct Clone: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clone",
    abstract: "Make a machine that is a stopped one's equal, with an identity of its own.")

  @Argument(help: "The machine to clone.") var source: String
  @Argument(help: "The machine to make.") var name: String
  @Flag(help: "Remove its ssh host keys, where something in it makes new ones.") var newHostKeys = false
  @Flag(help: "Print JSON.") var json = false

  func run() throws {
    let record = try manager().store.clone(
      try MachineName(source), as: try MachineName(name), newHostKeys: newHostKeys)
    print(json ? record.json.pretty : "made '\(record.name)' with the ids \(record.range.shown)")
  }
}

struct Rename: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rename",
    abstract: "Give a stopped machine another name: with its files, its ids, its spec and the drop-ins.")

  @Argument(help: "The machine.") var name: String
  @Argument(help: "Its new name.") var newName: String

  func run() throws {
    try manager().rename(try MachineName(name), to: try MachineName(newName))
  }
}

struct Remove: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Remove stopped machines: their files, their ids, and the spec that was made with them.",
    discussion: "A directory that was used in place stays, with the ids that it came with.")

  @Argument(help: "The machines.") var names: [String]

  func run() throws {
    let manager = try manager()
    for name in try names.map({ try MachineName($0) }) { try manager.remove(name) }
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Make a machine from an image and start it.",
    discussion: "Waits until the machine's systemd has finished booting.")

  @Argument(help: "The image.") var image: String
  @Argument(help: "The machine to make; without it a name that begins with the image's.") var name: String?
  @Flag(help: "The machine goes away when it stops.") var ephemeral = false
  @OptionGroup var settings: Settings
  @OptionGroup var waiting: Waiting

  func run() throws {
    let manager = try manager()
    let image = try ImageName(image)
    let name = try MachineName(name ?? "\(image)-\(String(UInt16.random(in: 0x1000 ... .max), radix: 16))")
    let made = try manager.create(
      name, from: .image(image), settings: settings.assignments, isEphemeral: ephemeral)
    Terminal.warn(made.warnings)
    do {
      try waiting.start(name, manager, overrides: [])
    } catch let failure as Failure where ephemeral && failure.kind != .timedOut && failure.kind != .degraded {
      // A supervisor that came to nothing has removed it; one that never was could not.
      try? manager.remove(name)
      throw failure
    }
  }
}
