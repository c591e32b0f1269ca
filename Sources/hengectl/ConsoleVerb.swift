import ArgumentParser
import CLinux
import Glibc
import Linux
import MachineManager
import MachineSpec
import MachineStore

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
    let connection = try manager.openConsole(of: name)
    if Terminal.isOutput, isatty(0) == 1, !readOnly {
      try ConsoleSession(connection, name).sit()
    } else {
      // Somebody at a terminal whose output goes elsewhere types for the shell.
      try copy(connection, typing: !readOnly && isatty(0) != 1)
    }
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
      if polls[0].revents != 0, let piece = try connection.stream.receiveSome(limit: 1 << 16) {
        if piece.bytes.isEmpty { return try put(text?.rest() ?? []) }
        try put(piece.bytes)
      }
      if polls.count > 1, polls[1].revents != 0 {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(0, &buffer, buffer.count)
        if count > 0 { try send(buffer[..<count], to: connection.stream) } else { isTyping = false }
      }
    }
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

/// A terminal that belongs to a machine's console for a while.
private final class ConsoleSession {
  private static let escape: UInt8 = 0x1d

  private let connection: MachineManager.ConsoleConnection
  private let name: MachineName
  private var saved = termios()
  private var size: (columns: Int, rows: Int) = (0, 0)
  private var escapes: [UInt64] = []

  init(_ connection: MachineManager.ConsoleConnection, _ name: MachineName) {
    self.connection = connection
    self.name = name
  }

  func sit() throws(Failure) {
    Terminal.complain(plain: "the console of \(name); ^] three times within a second leaves it")
    // Without control sequences: a question to the terminal that somebody answered long ago would be answered again,
    // into the machine.
    let before = withoutControlSequences(String(decoding: connection.history, as: UTF8.self))
    var text = TerminalText(isConsole: true)
    try standardOutput.writeAll(text.harmless(Array(before.utf8)) + text.rest(), subject: "standard output")
    try check(tcgetattr(0, &saved), "use", "the terminal")
    var raw = saved
    cfmakeraw(&raw)
    signal(SIGPIPE, SIG_IGN)
    clinux_stop_on_signals()
    signal(SIGWINCH) { _ in }
    // They come through only while it waits: none is missed between a look and the wait.
    var blocked = sigset_t()
    sigemptyset(&blocked)
    for number in [SIGINT, SIGTERM, SIGHUP, SIGWINCH] { sigaddset(&blocked, number) }
    sigprocmask(SIG_BLOCK, &blocked, nil)
    try check(tcsetattr(0, TCSADRAIN, &raw), "use", "the terminal")
    defer {
      tcsetattr(0, TCSADRAIN, &saved)
      // What a machine may have left switched on: colours, a hidden cursor, the other screen, reports of the mouse.
      let plain = "\u{1b}[0m\u{1b}[?25h\u{1b}[?1049l\u{1b}[?1000l\u{1b}[?2004l\r\n"
      _ = Glibc.write(1, plain, plain.utf8.count)
    }
    try relay()
  }

  private func relay() throws(Failure) {
    while clinux_stop_signal() == 0 {
      tellSize()
      var polls = [
        pollfd(fd: connection.stream.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: 0, events: Int16(POLLIN), revents: 0),
      ]
      if clinux_poll_with_signals(&polls, 2) < 0 {
        if errno == EINTR { continue }
        throw Failure("wait for", "the console", errno: .init(rawValue: errno))
      }
      if polls[0].revents != 0, let piece = try connection.stream.receiveSome(limit: 1 << 16) {
        if piece.bytes.isEmpty { return }
        try standardOutput.writeAll(piece.bytes, subject: "standard output")
      }
      if polls[1].revents != 0 {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(0, &buffer, buffer.count)
        guard count > 0 else { return }
        let leaves = wantsToLeave(buffer[..<count])
        if leaves { return }
        try send(buffer[..<count], to: connection.stream)
      }
    }
  }

  private func tellSize() {
    guard let now = terminalSize(of: 1), now != size else { return }
    size = now
    connection.resize(columns: now.columns, rows: now.rows)
  }

  private func wantsToLeave(_ bytes: ArraySlice<UInt8>) -> Bool {
    let now = clinux_monotonic_microseconds()
    for byte in bytes {
      if byte == Self.escape { escapes.append(now) } else { escapes = [] }
      escapes.removeAll { $0 + 1_000_000 < now }
      if escapes.count >= 3 { return true }
    }
    return false
  }
}
