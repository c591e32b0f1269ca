import Glibc
import Linux
import MachineSpec
import MachineStore

/// Tells events as they happen: the kernel says when a file of the log changes, also one that was not there before.
public final class EventFollower {
  private let log: EventLog
  private let folder: Descriptor
  private let watch: Descriptor
  /// Files by name, with how much of each was read.
  private var files: [String: (file: Descriptor, end: off_t)] = [:]

  /// Begins to listen: what happens from here on is told by `next`.
  ///
  /// - Throws: `Failure` when the folder of the log cannot be watched.
  public init(_ store: MachineStore) throws(Failure) {
    log = store.events
    guard let folder = try log.open(make: true) else { throw Failure("watch", log.path, "it is not there") }
    self.folder = folder
    watch = Descriptor(adopting: try check(inotify_init1(Int32(O_CLOEXEC | O_NONBLOCK)), "watch", log.path))
    try check(
      inotify_add_watch(
        watch.raw, log.path, UInt32(IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF)), "watch",
      log.path)
    for name in try folder.names() where !name.hasPrefix(".") {
      guard let file = open(name) else { continue }
      files[name] = (file, lseek(file.raw, 0, SEEK_END))
    }
  }

  private func open(_ name: String) -> Descriptor? {
    try? folder.open(name, [.read, .noFollow, .nonBlocking], lookup: .beneath)
  }

  /// Waits for the next events.
  ///
  /// - Parameter output: a descriptor whose reader is waited for as well: once it is gone, there is nobody to tell.
  /// - Returns: the events in the order of their times; nil when the reader is gone.
  public func next(output: Int32) throws(Failure) -> [MachineEvent]? {
    while true {
      var polled = [
        pollfd(fd: watch.raw, events: Int16(POLLIN), revents: 0), pollfd(fd: output, events: 0, revents: 0),
      ]
      let result = poll(&polled, 2, -1)
      if result < 0 {
        if errno == EINTR { continue }
        throw Failure("watch", log.path, errno: .init(rawValue: errno))
      }
      if polled[1].revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0 { return nil }
      if polled[0].revents == 0 { continue }
      var events: [MachineEvent] = []
      for name in try changed() where !name.hasPrefix(".") { events += read(name) }
      if !events.isEmpty { return events.sorted { $0.time < $1.time } }
    }
  }

  /// The names of the files that changed, each once.
  private func changed() throws(Failure) -> Set<String> {
    var names = Set<String>()
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(watch.raw, &buffer, buffer.count)
      guard count > 0 else { return names }
      buffer.withUnsafeBytes { bytes in
        let header = MemoryLayout<inotify_event>.size
        var offset = 0
        while offset + header <= count {
          let event = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
          let end = min(count, offset + header + Int(event.len))
          names.insert(String(decoding: bytes[(offset + header)..<end].prefix { $0 != 0 }, as: UTF8.self))
          // Too much happened for the kernel's queue: look at all that there are.
          if event.mask & UInt32(IN_Q_OVERFLOW) != 0 { names.formUnion((try? folder.names()) ?? []) }
          offset = end
        }
      }
    }
  }

  /// What was added to a file; of one that was put aside the rest, and then what is in the new one.
  private func read(_ name: String) -> [MachineEvent] {
    var events: [MachineEvent] = []
    if let known = files[name] {
      let (found, end) = rest(of: known.file, from: known.end)
      events += found
      files[name] = (known.file, end)
      if let inode = try? known.file.status().inode, inode == (try? folder.status(of: name))??.inode { return events }
      files[name] = nil
    }
    if let file = open(name) {
      let (found, end) = rest(of: file, from: 0)
      events += found
      files[name] = (file, end)
    }
    return events
  }

  /// Whole lines only: what was cut off is read again when the rest of it is there.
  private func rest(of file: Descriptor, from start: off_t) -> ([MachineEvent], off_t) {
    lseek(file.raw, start, SEEK_SET)
    guard let bytes = try? file.readAll(limit: 4 << 20, subject: "events"), let last = bytes.lastIndex(of: 0x0a) else {
      return ([], start)
    }
    return (EventLog.events(in: bytes[...last]), start + off_t(last) + 1)
  }
}
