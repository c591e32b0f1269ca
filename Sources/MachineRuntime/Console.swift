import CLinux
import Glibc
import Linux
import Systemd

/// The machine's console: a terminal that is always drained, because a full one stops process 1, into a log and to
/// whoever is attached. Those stay attached while the machine reboots and gets another terminal.
final class Console {
  /// More than anybody has; each costs a bounded amount of memory.
  private static let limit = 32
  private static let inputLimit = 4096

  private let log: ConsoleLog
  private let loop: EventLoop
  private var terminal: Terminal?
  private var gathering: EventLoop.Source?
  private var readers: [Int32: ConsoleReader] = [:]
  /// What was typed and the terminal does not take yet; nothing more is read from those who type until it does.
  private var input: [UInt8] = []
  private var size: (columns: Int32, rows: Int32)?

  private struct Terminal {
    let controller: Descriptor
    /// Held open: when the last program that has the terminal closes it, the kernel would report a hang-up for as long
    /// as no other opens it.
    let peer: Descriptor?
    let source: EventLoop.Source
  }

  init(in folder: Descriptor, on loop: EventLoop) throws(Failure) {
    log = try ConsoleLog(in: folder)
    self.loop = loop
  }

  /// Takes over the controlling side of the terminal of a run that begins.
  func attach(_ controller: Descriptor) throws {
    try check(clinux_set_nonblocking(controller.raw, true), "drain", "the console")
    let peer = clinux_pty_peer(controller.raw)
    let source = try loop.addIO(controller.raw, .readable) { [unowned self] events in
      if events.contains(.writable) { typeInput() }
      let count = drain(limit: 1 << 16)
      // Level-triggered, this would come back for ever.
      if count == 0, events.contains(.hangUp) { try? terminal?.source.setEnabled(false) } else { gather(after: count) }
    }
    terminal = Terminal(
      controller: controller, peer: peer < 0 ? nil : Descriptor(adopting: peer), source: source)
    input = []
    log.beginRun()
    if let size { resize(columns: size.columns, rows: size.rows) }
  }

  /// Lets go of the terminal of a run that has ended.
  func detach() {
    drain(limit: 1 << 20)
    terminal = nil
    gathering = nil
    input = []
  }

  /// Cuts off whoever is attached.
  func close() {
    detach()
    for reader in Array(readers.values) { drop(reader) }
  }

  /// Lets lines come together when nobody looks on: a boot prints a hundred, and being woken for each costs more than
  /// writing it down. The terminal holds far more than comes in that time; what comes faster is read at once.
  private func gather(after count: Int) {
    guard readers.isEmpty, input.isEmpty, count < 4096, let source = terminal?.source else { return }
    gathering = try? loop.addTimer(after: 20_000, accuracy: 10_000) { [unowned self] in listen() }
    if gathering != nil { try? source.setEnabled(false) }
  }

  private func listen() {
    guard gathering != nil else { return }
    gathering = nil
    try? terminal?.source.setEnabled(true)
  }

  /// At most so much at a time: a machine that prints without end must not keep the loop from everything else.
  @discardableResult
  private func drain(limit: Int) -> Int {
    guard let terminal else { return 0 }
    var buffer = [UInt8](repeating: 0, count: 4096)
    var total = 0
    while total < limit {
      let count = read(terminal.controller.raw, &buffer, buffer.count)
      guard count > 0 else { break }
      total += count
      log.append(buffer[..<count])
      for reader in Array(readers.values) where !reader.send(buffer[..<count]) { drop(reader) }
    }
    return total
  }

  /// What there is for somebody who attaches: the other end of a stream, and the log up to where the stream begins.
  func open() throws -> (
    seat: ConsoleReader, stream: Descriptor, log: (file: Descriptor, length: UInt64, older: Descriptor?)
  ) {
    guard readers.count < Self.limit else {
      throw Failure("attach to", "the console", "\(Self.limit) are attached already")
    }
    let pair = try SocketPair(packets: false)
    try check(clinux_set_nonblocking(pair.first.raw, true), "attach to", "the console")
    let history = try log.reading()
    let reader = ConsoleReader(pair.first)
    reader.source = try loop.addIO(pair.first.raw, .readable) { [unowned self, unowned reader] events in
      handle(reader, events)
    }
    readers[pair.first.raw] = reader
    listen()
    return (reader, pair.second, history)
  }

  /// Sets the size of the terminal, also for the runs to come.
  func resize(columns: Int32, rows: Int32) {
    size = (columns, rows)
    if let terminal { _ = clinux_set_terminal_size(terminal.controller.raw, columns, rows) }
  }

  func tail(lines: Int) -> [String] { log.tail(lines: lines) }

  func drop(_ reader: ConsoleReader) {
    guard readers[reader.socket.raw] === reader else { return }
    reader.source = nil
    readers[reader.socket.raw] = nil
    reader.end()
  }

  private func handle(_ reader: ConsoleReader, _ events: IOEvents) {
    if events.contains(.writable), !reader.flush() { return drop(reader) }
    guard !events.intersection([.readable, .hangUp, .error]).isEmpty, input.isEmpty else { return }
    do {
      guard let piece = try reader.socket.receiveSome(limit: Self.inputLimit) else { return }
      if piece.bytes.isEmpty { return drop(reader) }
      guard terminal != nil else { return }
      input = piece.bytes
      typeInput()
    } catch {
      drop(reader)
    }
  }

  /// Gives the terminal what was typed. As long as some of it is left, nobody who types is listened to.
  private func typeInput() {
    guard let terminal else { return }
    let wasWaiting = !input.isEmpty
    while !input.isEmpty {
      let count = write(terminal.controller.raw, input, input.count)
      guard count > 0 else { break }
      input.removeFirst(count)
    }
    guard wasWaiting else { return }
    try? terminal.source.setEvents(input.isEmpty ? .readable : [.readable, .writable])
    for reader in readers.values { reader.isListenedTo = input.isEmpty }
  }
}
