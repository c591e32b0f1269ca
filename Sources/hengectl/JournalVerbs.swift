import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec

struct Journal: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "journal",
    abstract: "Show the journal of a machine, running or stopped, as journalctl does.",
    usage: "hengectl journal NAME [OPTION OF journalctl ...]",
    discussion: """
      Everything behind the name goes to this host's journalctl: -u, -p, -b, -n, -f, --since, -o json … It sees nothing \
      but the machine's journal. On a terminal control characters are escaped, and a pager is used as journalctl uses \
      one; a pipe gets the bytes as they are. With -f it ends when the machine stops.
      """)

  @Argument(parsing: .captureForPassthrough, help: "The machine, and the options of journalctl.")
  var words: [String] = []

  func run() throws {
    guard let first = words.first else { throw ValidationError("it needs the name of a machine") }
    if first == "--help" || first == "-h" { throw CleanExit.helpRequest(self) }
    var arguments = Array(words.dropFirst())
    if arguments.first == "--" { arguments.removeFirst() }
    let options = JournalOptions(arguments)
    let zone = variable("TZ").map { ["TZ=\($0)"] } ?? []
    let display = JournalDisplay(isPaged: Terminal.isOutput && !options.follows && !options.refusesPager)
    let code = try manager().showJournal(
      of: try MachineName(first), arguments: arguments, follows: options.follows, environment: zone,
      output: { bytes throws(Failure) in try display.show(bytes) },
      message: { line in
        var text = line[...]
        for prefix in ["henge-supervisor: ", "notice: "] where text.hasPrefix(prefix) {
          text = text.dropFirst(prefix.utf8.count)
        }
        Terminal.complain(printable(text, limit: 8192))
      })
    try display.finish()
    if code != 0 { throw Failure("", nil, "", kind: Failure.Kind(rawValue: code) ?? .failed) }
  }
}

/// What of journalctl's options concerns whoever runs it.
struct JournalOptions {
  /// Whether it waits for more.
  var follows = false
  /// Whether no pager is wanted.
  var refusesPager = false

  /// Options of one letter that take a value: the rest of the word, or the next one.
  private static let valued: Set<Character> = [
    "n", "o", "b", "u", "t", "p", "g", "S", "U", "c", "D", "M", "F", "T", "i",
  ]
  /// Those of them that take it from the same word only, or may.
  private static let optional: Set<Character> = ["b"]

  init(_ arguments: [String]) {
    var skipsNext = false
    for word in arguments {
      if skipsNext {
        skipsNext = false
      } else if word.hasPrefix("--") {
        if word.utf8.count > 4, "--follow".hasPrefix(word) { follows = true }
        if word.utf8.count > 6, "--no-pager".hasPrefix(word) { refusesPager = true }
      } else if word.hasPrefix("-") {
        let letters = Array(word.dropFirst())
        for (index, letter) in letters.enumerated() {
          if letter == "f" { follows = true }
          guard Self.valued.contains(letter) else { continue }
          skipsNext = index + 1 == letters.count && !Self.optional.contains(letter) && letter != "n"
          break
        }
      }
    }
  }
}

/// Where the text of a machine's journal goes: a pipe as it is, a terminal or a pager made harmless.
private final class JournalDisplay {
  private var filter: TerminalText?
  private var pager: (process: Pidfd, input: Descriptor)?

  init(isPaged: Bool) {
    if Terminal.isOutput { filter = TerminalText() }
    guard isPaged, let pager = try? Self.startPager() else { return }
    self.pager = pager
    // Ctrl-C is a word to the pager, and its end shows when it takes no more.
    signal(SIGINT, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
  }

  /// - Returns: false when nobody looks any more.
  func show(_ bytes: [UInt8]) throws(Failure) -> Bool {
    if filter == nil { return try put(bytes) }
    return try put(filter?.harmless(bytes) ?? [])
  }

  func finish() throws(Failure) {
    _ = try put(filter?.rest() ?? [])
    guard let process = pager?.process else { return }
    // Its input ends here.
    pager = nil
    _ = try process.reap(wait: true)
  }

  private func put(_ bytes: [UInt8]) throws(Failure) -> Bool {
    do {
      if let pager {
        try pager.input.writeAll(bytes, subject: "the pager")
      } else {
        try standardOutput.writeAll(bytes, subject: "standard output")
      }
    } catch {
      guard error.errno == .brokenPipe else { throw error }
      return false
    }
    return true
  }

  /// The operator's pager, run as the operator: `SYSTEMD_PAGER`, `PAGER`, or less; none where one of them is empty or
  /// `cat`.
  private static func startPager() throws -> (process: Pidfd, input: Descriptor)? {
    let wanted = variable("SYSTEMD_PAGER") ?? variable("PAGER") ?? "less"
    var words = wanted.split(separator: " ").map(String.init)
    guard let name = words.first, name != "cat" else { return nil }
    let folders = variable("PATH")?.split(separator: ":").map(String.init) ?? []
    let places = name.contains("/") ? [name] : folders.map { "\($0)/\(name)" }
    guard let path = places.first(where: { $0.hasPrefix("/") && access($0, X_OK) == 0 }) else { return nil }
    words[0] = name
    let own = try Descriptor.open("/proc/self/environ").readAll(limit: 4 << 20, subject: "the environment")
    var environment = own.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
    if variable("LESS") == nil { environment.append("LESS=FRSXMK") }
    // What is shown is harmless already; that the pager runs nothing for it costs nothing.
    environment.append("LESSSECURE=1")
    let pair = try SocketPair(packets: false)
    let request = ProcessRequest(
      .path(path), arguments: words, environment: environment,
      descriptors: [pair.second, standardOutput, Descriptor(adopting: try check(dup(2), "pass on", "standard error"))])
    return (try request.start().process, pair.first)
  }
}

private func variable(_ name: String) -> String? {
  guard let value = getenv(name) else { return nil }
  return String(cString: value)
}

/// Standard output, never closed.
let standardOutput = Descriptor(adopting: 1)
