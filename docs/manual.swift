// Makes hengectl(1) out of what the argument parser knows, so that the page cannot say anything else than the program:
//   hengectl --experimental-dump-help | swift docs/manual.swift docs/man/hengectl.1.end
// The file that is named ends the page: what is true of all verbs.

import Foundation

struct Help: Decodable {
  var command: Command
}

struct Command: Decodable {
  var commandName: String
  var aliases: [String]?
  var abstract: String?
  var discussion: String?
  var arguments: [Argument]?
  var subcommands: [Command]?
}

struct Argument: Decodable {
  struct Name: Decodable {
    var kind: String
    var name: String

    var text: String { kind == "long" ? "--\(name)" : "-\(name)" }
  }
  var abstract: String?
  var kind: String
  var isOptional: Bool
  var isRepeating: Bool
  var names: [Name]?
  var valueName: String?
  var defaultValue: String?
  var allValues: [String]?

  /// Said once for all verbs.
  var isCommon: Bool { names?.contains { $0.name == "help" || $0.name == "version" } ?? false }
}

/// Text for roff: nothing in it is a request, a hyphen is the one that can be typed.
func roff(_ text: String) -> String {
  let escaped = text.replacingOccurrences(of: "\\", with: "\\e").replacingOccurrences(of: "-", with: "\\-")
    .replacingOccurrences(of: "…", with: "...").replacingOccurrences(of: "\n", with: " ")
  return escaped.hasPrefix(".") || escaped.hasPrefix("'") ? "\\&" + escaped : escaped
}

func form(_ argument: Argument) -> String {
  let value = "\\fI\(roff(argument.valueName ?? "value").uppercased())\\fR"
  let names = (argument.names ?? []).map { "\\fB\(roff($0.text))\\fR" }.joined(separator: ", ")
  switch argument.kind {
  case "positional": return value
  case "flag": return names
  default: return "\(names) \(value)"
  }
}

func synopsis(_ command: Command) -> String {
  var words = [([command.commandName] + (command.aliases ?? [])).map { "\\fB\(roff($0))\\fR" }.joined(separator: ", ")]
  let arguments = (command.arguments ?? []).filter { !$0.isCommon }
  if arguments.contains(where: { $0.kind != "positional" }) { words.append("[\\fIOPTIONS\\fR]") }
  for argument in arguments where argument.kind == "positional" {
    let word = form(argument) + (argument.isRepeating ? "..." : "")
    words.append(argument.isOptional ? "[\(word)]" : word)
  }
  return words.joined(separator: " ")
}

func describe(_ argument: Argument) {
  print(".TP\n\(form(argument))")
  var text = argument.abstract ?? ""
  if let values = argument.allValues, !values.isEmpty { text += " One of: \(values.joined(separator: ", "))." }
  if let value = argument.defaultValue { text += " Default: \(value)." }
  if argument.isRepeating, argument.kind != "positional" { text += " May be given several times." }
  print(roff(text))
}

let input = FileHandle.standardInput.readDataToEndOfFile()
let end = try String(contentsOfFile: CommandLine.arguments[1], encoding: .utf8)
let program = try JSONDecoder().decode(Help.self, from: input).command

print(".TH HENGECTL 1 \"\" Henge \"Henge\"")
print(".SH NAME\nhengectl \\- boot whole Linux systems inside user namespaces")
print(".SH SYNOPSIS\n.B hengectl\n.I VERB\n.RI [ OPTIONS ]\n.RI [ ARGUMENTS ]")
print(".SH DESCRIPTION\n\(roff(program.abstract ?? ""))")
print("Every verb has \\fB\\-\\-help\\fR and \\fB\\-\\-version\\fR.")
print(".SH VERBS")
for verb in program.subcommands ?? [] where verb.commandName != "help" {
  print(".SS \(synopsis(verb))\n\(roff(verb.abstract ?? ""))")
  if let discussion = verb.discussion, !discussion.isEmpty { print(".PP\n\(roff(discussion))") }
  for argument in verb.arguments ?? [] where !argument.isCommon { describe(argument) }
}
print(end, terminator: "")
