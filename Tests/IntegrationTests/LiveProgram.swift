import Glibc
import Linux
import Testing

/// A program that is watched and typed to while it runs, on a terminal of its own or at the ends of a stream.
final class LiveProgram {
  let process: Pidfd
  let id: Int32
  /// The terminal that the program has, where it has one.
  let terminal: Descriptor?
  private let end: Descriptor
  /// Everything that it has said so far.
  private(set) var seen: [UInt8] = []
  private var isAtEnd = false

  var text: String { String(decoding: seen, as: UTF8.self) }

  /// - Parameters:
  ///   - onTerminal: whether its three descriptors are a terminal; otherwise they are a stream, but for input.
  ///   - readsStream: whether its input is the stream as well; otherwise it is empty.
  init(_ arguments: [String], environment: [String], onTerminal: Bool, readsStream: Bool = false) throws {
    let other: Descriptor
    if onTerminal {
      let pty = try Pty(in: try .open("/dev/pts", .directory))
      (end, other, terminal) = (pty.controller, pty.terminal, pty.terminal)
    } else {
      let pair = try SocketPair(packets: false)
      (end, other, terminal) = (pair.first, pair.second, nil)
    }
    var request = ProcessRequest(
      .path(arguments[0]), arguments: arguments,
      environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TERM=xterm"] + environment,
      descriptors: [onTerminal || readsStream ? other : nil, other, other])
    request.newSession = true
    (process, id) = try request.start()
  }

  deinit {
    _ = try? process.signal(SIGKILL)
    _ = try? process.reap(wait: true)
  }

  func type(_ text: String) throws { try end.writeAll(Array(text.utf8), subject: "the program") }

  /// Reads until there is a text, as often as wanted, in what it said.
  func waitFor(_ wanted: String, times: Int = 1, deadline seconds: Double = 20) throws {
    let limit = now() + UInt64(seconds * 1e9)
    while count(wanted) < times {
      guard try readMore(until: limit) else {
        throw Complaint("no '\(wanted)' in \(seconds) s, but: \(text.suffix(2000))")
      }
    }
  }

  /// Waits for the end.
  func wait(deadline seconds: Double = 20) throws -> Int32 {
    let limit = now() + UInt64(seconds * 1e9)
    while true {
      var poll = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
      if Glibc.poll(&poll, 1, 0) > 0 { break }
      guard now() < limit else { throw Complaint("it did not end in \(seconds) s: \(text.suffix(2000))") }
      _ = try readMore(until: min(limit, now() + 50_000_000))
    }
    while try readMore(until: now()) {}
    switch try process.reap(wait: true) {
    case .exited(let status): return status
    case .signalled(let number): return 128 + number
    case nil: return -1
    }
  }

  private func count(_ wanted: String) -> Int {
    var count = 0
    var rest = text[...]
    while let found = rest.firstRange(of: wanted) {
      count += 1
      rest = rest[found.upperBound...]
    }
    return count
  }

  private func readMore(until limit: UInt64) throws -> Bool {
    if isAtEnd { return false }
    let moment = now()
    var poll = pollfd(fd: end.raw, events: Int16(POLLIN), revents: 0)
    guard Glibc.poll(&poll, 1, moment < limit ? Int32((limit - moment) / 1_000_000) + 1 : 0) > 0 else { return false }
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = Glibc.read(end.raw, &buffer, buffer.count)
    // A terminal that nobody has open any more answers with an error.
    isAtEnd = count <= 0
    seen += buffer[..<max(0, count)]
    return count > 0
  }
}

extension Sandbox {
  /// Starts hengectl where it is watched and typed to.
  func live(_ arguments: String..., onTerminal: Bool = false, readsStream: Bool = false) throws -> LiveProgram {
    try LiveProgram(
      ["\(Checkout.programs)/hengectl"] + arguments, environment: environment, onTerminal: onTerminal,
      readsStream: readsStream)
  }
}
