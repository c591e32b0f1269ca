import Glibc
import Linux
import MachineSpec
import Varlink

/// What happened to the machines lately: a file of lines of JSON for each, which is rotated, so that no machine can push
/// out what is known of another, and none fills the disk. The files of machines that are gone stay for a while.
///
/// A line is one write to the end of a file. Who writes holds the machine's lock, so no two write at once; who reads
/// needs none.
public struct EventLog: Sendable {
  /// The size from which on a file is put aside; the one that was put aside before it goes.
  static let fileLimit: UInt64 = 64 << 10
  /// How many files of machines that are gone are kept.
  static let goneLimit = 50

  /// The folder.
  public let path: String

  /// The log of the machines in these places.
  public init(_ places: Places) { path = "\(places.state)/events" }

  /// Opens the folder; nil when there is none and it is not to be made.
  public func open(make: Bool) throws(Failure) -> Descriptor? {
    if make { return try Descriptor.folder(path) }
    do {
      return try Descriptor.open(path, .directory)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return nil }
      throw error
    }
  }

  /// The name of the file that was put aside; no machine's name begins with a dot.
  static func aside(_ machine: String) -> String { ".\(machine).1" }

  /// Writes an event. That it cannot be written, as on a full disk, is no reason to hold up what happens.
  public func append(_ event: MachineEvent) {
    try? write(event)
  }

  private func write(_ event: MachineEvent) throws(Failure) {
    guard let folder = try open(make: true) else { return }
    var file = try Self.file(event.machine, in: folder)
    if try file.status().size >= Self.fileLimit {
      try check(renameat(folder.raw, event.machine, folder.raw, Self.aside(event.machine)), "rotate", event.machine)
      file = try Self.file(event.machine, in: folder)
    }
    let size = try file.status().size
    let line = Array(event.json.compact.utf8) + [0x0a]
    let written = try check(Glibc.write(file.raw, line, line.count), "write", event.machine)
    // Half a line, as on a full disk, would spoil the next one too.
    if written < line.count { ftruncate(file.raw, off_t(size)) }
  }

  private static func file(_ name: String, in folder: Descriptor) throws(Failure) -> Descriptor {
    try folder.open(name, [.write, .create, .append, .noFollow], lookup: .beneath, mode: 0o600)
  }

  /// The events that are known, in the order of their times.
  ///
  /// - Parameters:
  ///   - names: only those that concern one of these; none stands for all.
  ///   - count: how many of the last ones.
  public func recent(_ names: [String] = [], count: Int) throws(Failure) -> [MachineEvent] {
    guard let folder = try open(make: false) else { return [] }
    var events: [MachineEvent] = []
    for name in try folder.names() {
      // A file that goes meanwhile is none.
      guard let file = try? folder.open(name, [.read, .noFollow, .nonBlocking], lookup: .beneath),
        let bytes = try? file.readAll(limit: 4 << 20, subject: name)
      else { continue }
      events += Self.events(in: bytes[...])
    }
    let wanted = events.filter { event in names.isEmpty || names.contains { event.concerns($0) } }
    // Sorting is not stable, and the files are in no order: the times alone count, which are microseconds.
    return wanted.sorted { ($0.time, $0.machine) < ($1.time, $1.machine) }.suffix(max(0, count))
  }

  /// The events of whole lines; what is none is passed over.
  public static func events(in bytes: ArraySlice<UInt8>) -> [MachineEvent] {
    bytes.split(separator: 0x0a).compactMap { line in
      (try? JSON(parsing: Array(line))).flatMap(MachineEvent.init(json:))
    }
  }

  /// Removes the oldest files of machines that are gone, when there are many.
  func prune(isMachine: (String) -> Bool) {
    guard let folder = try? open(make: false), let names = try? folder.names() else { return }
    let gone = names.filter { !$0.hasPrefix(".") && !isMachine($0) }
    guard gone.count > Self.goneLimit else { return }
    let dated = gone.map { name in (name: name, time: lastChange(of: name, in: folder)) }
    for file in dated.sorted(by: { $0.time < $1.time }).dropLast(Self.goneLimit) {
      _ = unlinkat(folder.raw, file.name, 0)
      _ = unlinkat(folder.raw, Self.aside(file.name), 0)
    }
  }

  private func lastChange(of name: String, in folder: Descriptor) -> Int {
    var status = stat()
    guard fstatat(folder.raw, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return 0 }
    return status.st_mtim.tv_sec
  }
}

extension MachineStore {
  /// What happened to the machines lately.
  public var events: EventLog { EventLog(places) }

  /// Notes what happened to a machine.
  public func tell(_ name: MachineName, _ event: String, _ details: JSON = [:]) {
    events.append(MachineEvent(name, event, details: details))
  }
}
