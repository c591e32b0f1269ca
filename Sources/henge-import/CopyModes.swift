import Archive
import CLinux
import Glibc
import Images
import Linux
import TreeStream

/// The host's end of a copy between the host and a machine. What it reads from a machine may be anything.
enum CopyModes {
  /// The exit code that says nothing but: the other end gave up, ask there.
  static let otherEndFailed: Int32 = 75

  private static let stream: Int32 = 3

  /// Does what the command line asks for, and says what the operator should know.
  static func run(_ arguments: CopyArguments) throws {
    umask(0)
    let isWriter = arguments.verb == .send || arguments.verb == .sendTar
    _ = fcntl(stream, F_SETFL, (isWriter ? O_WRONLY : O_RDONLY) | O_NONBLOCK)
    // Signals end an end that has nothing to take back.
    var port = StreamPort(stream, patience: arguments.patience)
    try Confinement.enter(forCopy: arguments.verb, keepsPrivileges: arguments.policy.keepsPrivileges)
    let line = ProgressLine(name: "copy", total: nil)
    defer { line.end() }
    let progress = { (summary: TreeSummary) in line.update(entries: summary.entries, bytes: summary.bytes, read: 0) }
    var policy = arguments.policy
    switch arguments.verb {
    case .send:
      let sender = TreeSender(try TreeWriter { [port] in try port.write($0) }, policy: policy, progress: progress)
      try orGiveUp(sender) {
        for path in arguments.paths { try sender.send(path, on: .host) }
        _ = try sender.end()
      }
      policy = sender.policy
    case .sendTar:
      let source = TarSource(
        0, writer: try TreeWriter { [port] in try port.write($0) }, policy: policy, progress: progress)
      try source.send()
      policy = source.policy
    case .receive:
      let stop = try Calls.check(clinux_stop_descriptor(), "wait for", "signals")
      port = StreamPort(stream, stop: stop, patience: arguments.patience)
      let receiver = TreeReceiver(TreeReader { [port] in try port.read($0) }, policy: policy, progress: progress)
      let destination = try Destination(
        arguments.paths.first ?? ".", options: arguments.destination, on: .host)
      do {
        _ = try Staging.receive(into: destination, receiver, options: arguments.destination)
      } catch is Interrupted {
        throw Failure("copy", arguments.paths.first, "interrupted, nothing of it is left")
      }
      policy = receiver.policy
    case .receiveTar:
      if isatty(1) == 1 {
        throw Failure("copy", nil, "the archive would go to the terminal", advice: "redirect it", kind: .usage)
      }
      let sink = try TarSink(1, policy: policy, progress: progress)
      try sink.receive(TreeReader { [port] in try port.read($0) })
      policy = sink.policy
    case .sweep:
      try Destination.sweep(arguments.paths.first ?? ".", isExact: arguments.destination.isExact, on: .host)
    }
    line.end()
    for text in policy.notes { note(text) }
  }

  private static func orGiveUp(_ sender: TreeSender, _ body: () throws -> Void) throws {
    do {
      try body()
    } catch {
      // Else the other end would take the end of the stream for a crash.
      if !(error is OtherEndFailed) { sender.giveUp() }
      throw error
    }
  }
}
