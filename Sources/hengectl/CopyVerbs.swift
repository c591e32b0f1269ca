import ArgumentParser
import Linux
import MachineManager
import MachineSpec

/// What both ways of copying have in common.
struct CopyOptions: ParsableArguments {
  @Flag(help: "Replace files that are there already, and merge folders.") var force = false
  @Flag(help: "Make the folders on the way that are missing.") var mkdir = false
  @Flag(name: .customLong("squash-ids"), help: "Give files with ids above 65535 to nobody instead of failing.")
  var squashIDs = false
  @Flag(help: "Leave sockets and devices out instead of failing.") var skipSpecial = false

  @Option(help: "Give up when nothing moves in the machine for this many seconds.") var timeout = 60.0

  /// In milliseconds.
  func patience() throws -> Int {
    guard timeout > 0, timeout < 1e6 else { throw ValidationError("--timeout takes seconds above 0") }
    return max(1, Int(timeout * 1000))
  }

  var words: Set<MachineManager.CopyOption> {
    var result: Set<MachineManager.CopyOption> = []
    if force { result.insert(.replace) }
    if mkdir { result.insert(.makeFolders) }
    if squashIDs { result.insert(.squashIDs) }
    if skipSpecial { result.insert(.skipSpecial) }
    return result
  }
}

struct CopyTo: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "copy-to", abstract: "Copy files and trees from the host into a running machine.",
    discussion: """
      A destination that is a folder gets them in it, as with cp; without one they get the same path as on the host. \
      '-' as source is a tar archive on standard input, to be unpacked in the destination. Owners, modes, times, links, \
      holes, ACLs, extended attributes and file capabilities come along: id 1000 here is id 1000 there. All of it is \
      there at the end, or nothing.
      """)

  @Argument(help: "The machine.") var name: String
  @Argument(help: "What to copy, and then the machine's path to copy it to.") var paths: [String]
  @OptionGroup var options: CopyOptions

  func run() throws {
    guard let first = paths.first else { throw ValidationError("nothing to copy is named") }
    var sources = paths
    let destination = sources.count > 1 ? sources.removeLast() : nil
    if sources.contains("-"), sources.count > 1 || destination == nil {
      throw ValidationError("'-' is the only source, and wants a destination")
    }
    guard destination != nil || first.hasPrefix("/") else {
      throw ValidationError("a source that is no absolute path wants a destination")
    }
    let notes = try manager().copyTo(
      try MachineName(name), sources, destination, options: options.words, patience: try options.patience())
    Terminal.note(notes)
  }
}

struct CopyFrom: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "copy-from", abstract: "Copy files and trees of a running machine to the host.",
    discussion: """
      A destination that is a folder gets them in it, as with cp; without one they get the same path as in the machine. \
      '-' as destination is a tar archive on standard output. Set-id bits and file capabilities stay behind: a program \
      of the machine's must not get rights on the host.
      """)

  @Argument(help: "The machine.") var name: String
  @Argument(help: "The machine's paths to copy, and then the path to copy them to.") var paths: [String]
  @OptionGroup var options: CopyOptions
  @Flag(help: "Keep set-id bits and file capabilities.") var keepPrivileges = false

  func run() throws {
    var sources = paths
    let destination = sources.count > 1 ? sources.removeLast() : nil
    var words = options.words
    if keepPrivileges { words.insert(.keepPrivileges) }
    let notes = try manager().copyFrom(
      try MachineName(name), sources, destination, options: words, patience: try options.patience())
    Terminal.note(notes)
  }
}

extension Terminal {
  /// What a copy did not take along.
  fileprivate static func note(_ notes: [String]) {
    for text in notes { complain(printable(text, limit: 200)) }
  }
}
