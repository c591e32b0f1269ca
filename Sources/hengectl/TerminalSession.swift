import CLinux
import Glibc
import Linux
import Varlink

/// The operator's terminal, given over to a terminal in a machine: raw while it runs, as it was before on every way
/// out, signals included.
final class TerminalSession {
  private static let ends = [SIGTERM, SIGHUP, SIGINT, SIGQUIT]
  private static let escape: UInt8 = 0x1d

  private let signals: Descriptor
  private var saved: termios?
  private let canLeave: Bool
  private var escapes: [UInt64] = []

  /// Makes it raw, if standard input is a terminal.
  ///
  /// - Parameter canLeave: whether ^] three times within a second ends the session.
  init(canLeave: Bool) throws {
    self.canLeave = canLeave
    let numbers = Self.ends + [SIGWINCH]
    signals = Descriptor(
      adopting: try check(clinux_signal_pipe(numbers, Int32(numbers.count)), "watch", "signals"))
    var settings = termios()
    guard tcgetattr(0, &settings) == 0 else { return }
    saved = settings
    cfmakeraw(&settings)
    tcsetattr(0, TCSADRAIN, &settings)
  }

  deinit { restore() }

  /// Gives the terminal back as it was.
  func restore() {
    guard var settings = saved else { return }
    saved = nil
    tcsetattr(0, TCSADRAIN, &settings)
  }

  /// The size of the operator's terminal, for whoever makes the one in the machine.
  static var size: (columns: Int, rows: Int) { terminalSize(of: 0) ?? terminalSize(of: 1) ?? (80, 24) }

  /// Copies both ways until the reply to a call comes and all that was said is through, or until the operator leaves.
  ///
  /// - Parameters:
  ///   - remote: the controlling side of a pty, or a stream that stands for one.
  ///   - client: the connection that the reply comes on; its end is a reply too.
  ///   - sendsInput: whether what is typed goes there.
  ///   - onResize: told of a new size, when `remote` cannot be asked to take it.
  /// - Returns: whether the operator left by ^]^]^]. For a signal that ends programs it does not return: the terminal is
  ///   restored and the signal takes its course.
  func run(
    with remote: Descriptor, until client: VarlinkClient, sendsInput: Bool = true,
    onResize: @escaping (_ columns: Int, _ rows: Int) -> Void = { _, _ in }
  ) throws -> Bool {
    try remote.setNonBlocking()
    let output = Relay(from: remote, to: try standard(1))
    output.comesBack = true
    let input = Relay(from: try standard(0), to: remote)
    input.inspect = { [unowned self] piece in !isEscape(piece) }
    // What a terminal's user types for the end of the input.
    if sendsInput { input.farewell = [4] }
    let resize = {
      let size = Self.size
      if !setTerminalSize(of: remote.raw, columns: size.columns, rows: size.rows) { onResize(size.columns, size.rows) }
    }
    // It may have changed since it was told.
    if terminalSize(of: 0) != nil || terminalSize(of: 1) != nil { resize() }
    var pump = Pump(ready: client.readiness ?? -1, hasReply: client.hasReply)
    pump.inputs = [input]
    pump.outputs = [output]
    pump.signals = signals
    pump.onSignal = { number in
      guard number == SIGWINCH else { return false }
      resize()
      return true
    }
    let end = pump.run()
    restore()
    switch end {
    case .replied: return false
    case .left: return true
    case .signalled(let number):
      let numbers = Self.ends + [SIGWINCH]
      clinux_signal_default(numbers, Int32(numbers.count), number)
      exit(128 + number)
    }
  }

  private func standard(_ number: Int32) throws(Failure) -> Descriptor {
    Descriptor(adopting: try check(fcntl(number, F_DUPFD_CLOEXEC, 3), "use", "the terminal"))
  }

  private func isEscape(_ piece: ArraySlice<UInt8>) -> Bool {
    guard canLeave else { return false }
    for byte in piece {
      guard byte == Self.escape else {
        escapes = []
        continue
      }
      let now = clinux_monotonic_microseconds()
      escapes = escapes.suffix(2) + [now]
      if escapes.count == 3, now - escapes[0] <= 1_000_000 { return true }
    }
    return false
  }
}
