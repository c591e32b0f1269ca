import CLinux
import Glibc
import Linux
import MachineSpec
import MachineStore
import SystemPackage
import Varlink

/// Copying between the host and a running machine. Two processes are the ends of one pipe: `henge-import` on the host,
/// and one that its supervisor puts into the machine. Nothing of the machine's is found by its path from here.
extension MachineManager {
  /// What is done otherwise than usual.
  public enum CopyOption: String, Sendable {
    /// What is there already is replaced, and folders are merged.
    case replace
    /// Folders that are missing on the way are made.
    case makeFolders
    /// Ids that the other side cannot have become nobody's.
    case squashIDs
    /// Sockets and devices are left out.
    case skipSpecial
    /// Set-id bits and file capabilities of a machine's files come along.
    case keepPrivileges
    case exact
    case folder

    fileprivate var word: String {
      switch self {
      case .replace: "--force"
      case .makeFolders: "--mkdir"
      case .squashIDs: "--squash-ids"
      case .skipSpecial: "--skip-special"
      case .keepPrivileges: "--keep-privileges"
      case .exact: "--exact"
      case .folder: "--folder"
      }
    }
  }

  /// The exit code by which the host's end says that it was the other end that gave up.
  private static let otherEndFailed: Int32 = 75

  /// Copies files and trees into a machine: all of it, or nothing.
  ///
  /// - Parameters:
  ///   - name: the machine, which must be running.
  ///   - sources: the host's paths, or `-` alone for a tar archive on standard input.
  ///   - destination: the machine's path; nil for the one source's own.
  ///   - options: what is done otherwise than usual.
  ///   - patience: how long nothing may move in the machine, in milliseconds.
  /// - Returns: what the operator should know, a line each.
  public func copyTo(
    _ name: MachineName, _ sources: [String], _ destination: String?, options: Set<CopyOption> = [],
    patience: Int = 60000
  ) throws(Failure) -> [String] {
    let isTar = sources == ["-"]
    var there = options.subtracting([.keepPrivileges])
    if destination == nil { there.insert(.exact) }
    if isTar || sources.count > 1 { there.insert(.folder) }
    guard let path = destination ?? sources.first else { throw Failure("copy", nil, "no path is named", kind: .usage) }
    return try copy(
      name, "CopyTo", ["path": .string(path), "options": Self.names(there)], isWriter: true,
      patience: patience,
      arguments: [isTar ? "send-tar" : "send"] + Self.words(options, [.squashIDs, .skipSpecial])
        + (isTar ? [] : ["--"] + sources), sweep: nil)
  }

  /// Copies files and trees out of a machine: all of it, or nothing.
  ///
  /// - Parameters:
  ///   - name: the machine, which must be running.
  ///   - sources: the machine's paths.
  ///   - destination: the host's path, or `-` for a tar archive on standard output; nil for the one source's own.
  ///   - options: what is done otherwise than usual.
  ///   - patience: how long nothing may move in the machine, in milliseconds.
  /// - Returns: what the operator should know, a line each.
  public func copyFrom(
    _ name: MachineName, _ sources: [String], _ destination: String?, options: Set<CopyOption> = [],
    patience: Int = 60000
  ) throws(Failure) -> [String] {
    guard let path = destination ?? sources.first else { throw Failure("copy", nil, "no path is named", kind: .usage) }
    let parameters: JSON = [
      "paths": JSON(sources), "options": Self.names(options.intersection([.squashIDs, .skipSpecial])),
    ]
    if destination == "-" {
      return try copy(
        name, "CopyFrom", parameters, isWriter: false, patience: patience,
        arguments: ["receive-tar"] + Self.words(options, [.squashIDs, .keepPrivileges]), sweep: nil)
    }
    var here = options
    if destination == nil { here.insert(.exact) }
    if sources.count > 1 { here.insert(.folder) }
    let place = Self.words(here, [.exact]) + ["--", path]
    return try copy(
      name, "CopyFrom", parameters, isWriter: false, patience: patience,
      arguments: ["receive"]
        + Self.words(here, [.squashIDs, .keepPrivileges, .replace, .makeFolders, .folder]) + place,
      sweep: ["sweep"] + place)
  }

  private static func names(_ options: Set<CopyOption>) -> JSON { JSON(options.map(\.rawValue).sorted()) }

  private static func words(_ options: Set<CopyOption>, _ taken: Set<CopyOption>) -> [String] {
    options.intersection(taken).map(\.word).sorted()
  }

  private func copy(
    _ name: MachineName, _ method: String, _ parameters: JSON, isWriter: Bool, patience: Int, arguments: [String],
    sweep: [String]?
  ) throws(Failure) -> [String] {
    let client = try connectRunning(name, for: method, to: "copy")
    var (process, stream) = try startCopyEnd(
      arguments.prefix(1) + ["--patience", "\(patience)"] + arguments.dropFirst(), isWriter: isWriter)
    var exit: ProcessExit?
    var answer: Result<JSON, Failure> = .success([:])
    do {
      try client.callMore(
        "io.henge.Machine.\(method)", parameters, passing: stream.map { [$0] } ?? [],
        sent: { try waitForEnd(of: process, or: client, method, &exit) },
        { reply in
          answer = .success(reply)
          return true
        })
    } catch VarlinkFailure.timedOut {
      answer = .failure(
        Failure("copy", name.description, "the machine's end of it does not come to an end", kind: .timedOut))
    } catch {
      answer = .failure(explained(error, name))
    }
    client.close()
    // Ours is the last copy of the machine's end, if its process was killed: closing it tells the other end.
    stream = nil
    var ownSignal: Int32?
    if exit == nil {
      if case .failure = answer, sweep == nil {
        // It may be waiting for an archive's next bytes, or for somebody to take them, and has nothing to take back.
        ownSignal = SIGTERM
        try process.signal(SIGTERM)
      }
      exit = try process.reap(wait: true)
    }
    if case .signalled(let number) = exit {
      if number == ownSignal { _ = try answer.get() }
      if let sweep { _ = try? startCopyEnd(sweep, isWriter: true).process.reap(wait: true) }
      throw Failure("run", "henge-import", "signal \(number) ended it", advice: "try again")
    }
    guard case .exited(let status) = exit else { throw Failure("run", "henge-import", "it is gone") }
    // It has said what it was.
    if status != 0, status != Self.otherEndFailed {
      throw Failure("", nil, "", kind: Failure.Kind(rawValue: status) ?? .failed)
    }
    let result = try answer.get()
    guard status == 0, result["complete"]?.boolValue == true else {
      throw Failure("copy", name.description, "it ended early", advice: "try again")
    }
    return result["notes"]?.arrayValue?.compactMap(\.stringValue) ?? []
  }

  /// Waits for the end of the host's end or for the answer, whatever comes first; after the one, not for ever for the
  /// other: the machine's end may be held up by the machine.
  ///
  /// - Parameter exit: becomes how the process ended, if it has.
  private func waitForEnd(
    of process: Pidfd, or client: VarlinkClient, _ method: String, _ exit: inout ProcessExit?
  ) throws {
    var entries = [
      pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0),
      pollfd(fd: client.readiness ?? -1, events: Int16(POLLIN), revents: 0),
    ]
    while poll(&entries, nfds_t(entries.count), -1) < 0, errno == EINTR {}
    guard entries[1].revents == 0 else { return }
    exit = try process.reap(wait: true)
    let isTimedOut = exit == .exited(Failure.Kind.timedOut.rawValue)
    let patience: Int32 = exit == .exited(0) ? 300_000 : isTimedOut ? 0 : 10_000
    entries[0].fd = -1
    while true {
      let count = poll(&entries, nfds_t(entries.count), patience)
      if count < 0, errno == EINTR { continue }
      if count == 0 { throw VarlinkFailure.timedOut(method: method) }
      return
    }
  }

  /// Starts the host's end of a copy. It has the terminal, draws the progress, and says itself what goes wrong.
  ///
  /// - Parameter isWriter: whether it writes the stream.
  /// - Returns: the process, and the other end of the pipe; of its own end nobody but it has a copy.
  private func startCopyEnd(
    _ arguments: [String], isWriter: Bool
  ) throws(Failure) -> (process: Pidfd, stream: Descriptor?) {
    // Fewer switches between the two ends.
    let pipe = try Pipe(size: 1 << 20)
    let (reading, writing) = (pipe.output, pipe.input)
    var request = ProcessRequest(
      .path(try programs.path(of: "henge-import")), arguments: ["henge-import", "copy"] + arguments,
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
    request.descriptors = try (0...2).map { (number: Int32) throws(Failure) in
      Descriptor(adopting: try check(fcntl(number, F_DUPFD_CLOEXEC, 3), "pass on", "standard descriptors"))
    }
    request.descriptors.append(isWriter ? writing : reading)
    request.parentDeathSignal = SIGTERM
    return (try request.start().process, isWriter ? reading : writing)
  }
}
