import ArgumentParser
import Glibc
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct ConsoleVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "console",
    abstract: "Sit down at a machine's console, /dev/console; ^] three times within a second leaves it.",
    discussion: """
      What was printed before is shown first. Any number of people may look and type at the same time, and stay while \
      the machine reboots; it ends when the machine stops. Where both ends are a terminal, that terminal is the \
      machine's for as long as it lasts: what the machine prints reaches it as it is. Otherwise, and with --read-only, \
      control characters are escaped on a terminal, and a pipe gets the bytes as they are.
      """)

  @Argument(help: "The machine.") var name: String
  @Flag(help: "Look, and type nothing.") var readOnly = false
  @Flag(help: "Print what was printed before, and end; also for a machine that is stopped.") var history = false

  func run() throws {
    let name = try MachineName(name)
    let manager = try manager()
    if history { return try show(manager.store.consoleHistory(of: name)) }
    if Terminal.isOutput, isatty(0) == 1, !readOnly {
      try manager.sitAtConsole(of: name) { try sit(at: $0, until: $1, name) }
    } else {
      // Somebody at a terminal whose output goes elsewhere types for the shell.
      try copy(try manager.openConsole(of: name), typing: !readOnly && isatty(0) != 1)
    }
  }

  /// - Returns: false when the operator left.
  private func sit(
    at console: MachineManager.ConsoleConnection, until client: VarlinkClient, _ name: MachineName
  ) throws -> Bool {
    Terminal.complain(plain: "the console of \(name); ^] three times within a second leaves it")
    // Without control sequences: a question to the terminal that somebody answered long ago would be answered again,
    // into the machine.
    let before = withoutControlSequences(String(decoding: console.history, as: UTF8.self))
    var text = TerminalText(isConsole: true)
    try standardOutput.writeAll(text.harmless(Array(before.utf8)) + text.rest(), subject: "standard output")
    let session = try TerminalSession(canLeave: true)
    let hasLeft = try session.run(with: console.stream, until: client, onResize: console.resize)
    // What a machine may have left switched on: colours, a hidden cursor, the other screen, reports of the mouse.
    try standardOutput.writeAll(
      "\u{1b}[0m\u{1b}[?25h\u{1b}[?1049l\u{1b}[?1000l\u{1b}[?2004l\r\n".utf8, subject: "standard output")
    return !hasLeft
  }

  private func show(_ bytes: [UInt8]) throws(Failure) {
    var text = TerminalText(isConsole: true)
    let shown = Terminal.isOutput ? text.harmless(bytes) + text.rest() : bytes
    try standardOutput.writeAll(shown, subject: "standard output")
  }

  private func copy(_ connection: MachineManager.ConsoleConnection, typing: Bool) throws(Failure) {
    var text = Terminal.isOutput ? TerminalText(isConsole: true) : nil
    func put(_ bytes: [UInt8]) throws(Failure) {
      try standardOutput.writeAll(text?.harmless(bytes) ?? bytes, subject: "standard output")
    }
    try put(connection.history)
    var isTyping = typing
    while true {
      var polls = [pollfd(fd: connection.stream.raw, events: Int16(POLLIN), revents: 0)]
      if isTyping { polls.append(pollfd(fd: 0, events: Int16(POLLIN), revents: 0)) }
      if poll(&polls, nfds_t(polls.count), -1) < 0 {
        if errno == EINTR { continue }
        throw Failure("wait for", "the console", errno: .init(rawValue: errno))
      }
      if polls[0].revents != 0, let bytes = try receive(from: connection.stream) {
        if bytes.isEmpty { return try put(text?.rest() ?? []) }
        try put(bytes)
      }
      if polls.count > 1, polls[1].revents != 0 {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(0, &buffer, buffer.count)
        if count > 0 { try send(buffer[..<count], to: connection.stream) } else { isTyping = false }
      }
    }
  }
}

/// What is there; nothing at the end, which is a reset where the machine stopped before it took all that was typed.
private func receive(from stream: Descriptor) throws(Failure) -> [UInt8]? {
  do {
    return try stream.receiveSome(limit: 1 << 16)?.bytes
  } catch {
    guard error.errno == .connectionReset else { throw error }
    return []
  }
}

/// The machine may have stopped meanwhile; that shows where it is read.
private func send(_ bytes: ArraySlice<UInt8>, to stream: Descriptor) throws(Failure) {
  do {
    try stream.writeAll(bytes, subject: "the console")
  } catch {
    guard error.errno == .brokenPipe || error.errno == .connectionReset else { throw error }
  }
}
