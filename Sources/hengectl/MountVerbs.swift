import ArgumentParser
import Linux
import MachineManager
import MachineSpec

struct Bind: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bind",
    abstract: "Show a file or folder of the host in a running machine.",
    discussion: """
      The host's root shows as the machine's root, and what the machine's root writes belongs to the host's root. It is \
      there until the machine stops or starts anew, or 'unbind'.
      """)

  @Argument(help: "The machine.") var name: String
  @Argument(help: "The file or folder of the host.") var source: String
  @Argument(help: "Where in the machine; without it at the same path.") var target: String?
  @Flag(help: "The machine may write nothing there.") var readOnly = false
  @Flag(help: "Make the place in the machine where there is none.") var mkdir = false
  @Flag(name: .customLong("no-idmap"), help: "Leave the files with the host's ids, which are nobody's in the machine.")
  var noIDMap = false

  func run() throws {
    try manager().bind(
      try MachineName(name), source, at: target, readOnly: readOnly, mapped: !noIDMap, makeTarget: mkdir)
  }
}

struct Unbind: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unbind", abstract: "Take away what 'bind' has brought into a running machine.")

  @Argument(help: "The machine.") var name: String
  @Argument(help: "Where in the machine.") var target: String
  @Flag(help: "Take it out of sight also when it is in use; who uses it now still does.") var lazy = false

  func run() throws {
    try manager().unbind(try MachineName(name), target, lazy: lazy)
  }
}
