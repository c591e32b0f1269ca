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
  /// - Returns: what the operator should know, a line each.
  public func copyTo(
    _ name: MachineName, _ sources: [String], _ destination: String?, options: Set<CopyOption> = []
  ) throws(Failure) -> [String] {
    let isTar = sources == ["-"]
    var there = options.subtracting([.keepPrivileges])
    if destination == nil { there.insert(.exact) }
    if isTar || sources.count > 1 { there.insert(.folder) }
    guard let path = destination ?? sources.first else { throw Failure("copy", nil, "no path is named", kind: .usage) }
    return try copy(
      name, "CopyTo", ["path": .string(path), "options": Self.names(there)], isWriter: true,
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
  /// - Returns: what the operator should know, a line each.
  public func copyFrom(
    _ name: MachineName, _ sources: [String], _ destination: String?, options: Set<CopyOption> = []
  ) throws(Failure) -> [String] {
    guard let path = destination ?? sources.first else { throw Failure("copy", nil, "no path is named", kind: .usage) }
    let parameters: JSON = [
      "paths": JSON(sources), "options": Self.names(options.intersection([.squashIDs, .skipSpecial])),
    ]
    if destination == "-" {
      return try copy(
        name, "CopyFrom", parameters, isWriter: false,
        arguments: ["receive-tar"] + Self.words(options, [.squashIDs, .keepPrivileges]), sweep: nil)
    }
    var here = options
    if destination == nil { here.insert(.exact) }
    if sources.count > 1 { here.insert(.folder) }
    let place = Self.words(here, [.exact]) + ["--", path]
    return try copy(
      name, "CopyFrom", parameters, isWriter: false,
      arguments: ["receive"]
        + Self.words(here, [.squashIDs, .keepPrivileges, .replace, .makeFolders, .folder]) + place,
      sweep: ["sweep"] + place)
  }

  private static func names(_ options: Set<CopyOption>) -> JSON { JSON(options.map(\.rawValue).sorted()) }

  private static func words(_ options: Set<CopyOption>, _ taken: Set<CopyOption>) -> [String] {
    options.intersection(taken).map(\.word).sorted()
  }

  private func copy(
    _ name: MachineName, _ method: String, _ parameters: JSON, isWriter: Bool, arguments: [String], sweep: [String]?
  ) throws(Failure) -> [String] {
    let client = try connectRunning(name, for: method, to: "copy")
    var (process, stream) = try startCopyEnd(arguments, isWriter: isWriter)
    let answer: Result<JSON, Failure>
    do {
      answer = .success(
        try client.call("io.henge.Machine.\(method)", parameters, passing: stream.map { [$0] } ?? []))
    } catch {
      answer = .failure(explained(error, name))
    }
    // Ours is the last copy of the machine's end, if its process was killed: closing it tells the other end.
    stream = nil
    let exit = try process.reap(wait: true)
    if case .signalled(let number) = exit {
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
