import Glibc
import Linux
import MachineSpec
import MachineStore

/// The journal of a machine, running or stopped.
extension MachineManager {
  /// Shows a machine's journal as the host's journalctl prints it.
  ///
  /// journalctl runs as the machine's root would, without any capability, in namespaces in which there is nothing of the
  /// machine but its journal's folders. What it prints is the machine's: a terminal must not see it as it is.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - arguments: of journalctl, such as `-u`, `nginx`.
  ///   - follows: whether they make it wait for more; it ends when the machine stops.
  ///   - environment: of journalctl, `NAME=value`, such as `TZ`.
  ///   - output: takes the output piece by piece; false ends it.
  ///   - message: takes what it says beside that, line by line.
  /// - Returns: the exit code of journalctl.
  /// - Throws: `Failure` when it cannot be run; what it says itself goes to `message`.
  public func showJournal(
    of name: MachineName, arguments: [String], follows: Bool, environment: [String] = [],
    output: ([UInt8]) throws(Failure) -> Bool, message: (String) -> Void
  ) throws(Failure) -> Int32 {
    guard store.exists(name) else { throw Failure.noSuchMachine(name) }
    let viewer = try startViewer(name, [follows ? "follow" : "once"] + environment + ["--"] + arguments)
    do {
      if try !copy(from: viewer.output, messages: viewer.errors, output: output, message: message) {
        _ = try viewer.process.signal(SIGKILL)
        _ = try viewer.process.reap(wait: true)
        return 0
      }
    } catch {
      _ = try? viewer.process.signal(SIGKILL)
      _ = try? viewer.process.reap(wait: true)
      throw error
    }
    switch try viewer.process.reap(wait: true) {
    case .exited(let status): return status
    case .signalled(let number): throw Failure("read the journal of", name.description, "signal \(number) ended it")
    case nil: throw Failure("read the journal of", name.description, "its reader is gone")
    }
  }

  /// A function of its own, so that our copies of the program's ends are closed when it returns.
  private func startViewer(
    _ name: MachineName, _ arguments: [String]
  ) throws(Failure) -> (process: Pidfd, output: Descriptor, errors: Descriptor) {
    let output = try SocketPair(packets: false)
    let errors = try SocketPair(packets: false)
    var request = ProcessRequest(
      .path(try programs.path(of: "henge-supervisor")),
      arguments: ["henge-supervisor", "--journal", name.description] + arguments,
      environment: store.places.environment + userManager + ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
      descriptors: [nil, output.second, errors.second])
    request.parentDeathSignal = SIGKILL
    // Ctrl-C is for whoever shows it: a pager takes it for a word to itself.
    request.newSession = true
    return (try request.start().process, output.first, errors.first)
  }

  /// - Returns: false when the taker wants no more.
  private func copy(
    from output: Descriptor, messages: Descriptor, output take: ([UInt8]) throws(Failure) -> Bool,
    message: (String) -> Void
  ) throws(Failure) -> Bool {
    var open = [output, messages]
    var line: [UInt8] = []
    defer { if !line.isEmpty { message(String(decoding: line, as: UTF8.self)) } }
    while !open.isEmpty {
      var polls = open.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
      if poll(&polls, nfds_t(polls.count), -1) < 0 {
        if errno == EINTR { continue }
        throw Failure("wait for", "journalctl", errno: .init(rawValue: errno))
      }
      for (index, entry) in polls.enumerated().reversed() where entry.revents != 0 {
        guard let piece = try open[index].receiveSome(limit: 1 << 16) else { continue }
        if piece.bytes.isEmpty {
          open.remove(at: index)
        } else if entry.fd == output.raw {
          if try !take(piece.bytes) { return false }
        } else {
          for byte in piece.bytes {
            // Lines of any length would be the machine's to choose: it names its files.
            if byte == 10 || line.count == 4096 {
              message(String(decoding: line, as: UTF8.self))
              line = []
            }
            if byte != 10 { line.append(byte) }
          }
        }
      }
    }
    return true
  }
}
