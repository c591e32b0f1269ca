import CLinux
import Glibc
import Linux

/// The other end of a stream gave up or went away; it is for it to say why.
package struct OtherEndFailed: Error {
  package init() {}
}

/// Somebody asked this program to stop, by a signal.
package struct Interrupted: Error {
  package init() {}
}

/// One end of a pipe.
package struct StreamPort: Sendable {
  private let descriptor: Int32
  private let stop: Int32
  private let patience: Int32?

  /// Wraps an open descriptor, which stays the caller's.
  ///
  /// - Parameters:
  ///   - descriptor: an end of a pipe.
  ///   - stop: what becomes readable when all is to stop, or -1.
  ///   - patience: how long the other end may do nothing, in milliseconds; -1 for as long as it likes. Nil for an end
  ///     that blocks and has no `stop`; every other pipe must not block.
  package init(_ descriptor: Int32, stop: Int32 = -1, patience: Int32? = nil) {
    self.descriptor = descriptor
    self.stop = stop
    self.patience = patience
  }

  private static let again = -11
  private static let brokenPipe = -32

  /// Reads what is there.
  ///
  /// - Returns: how many bytes; 0 at the end.
  package func read(_ buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    while true {
      try wait(writing: false)
      let count = clinux_read(descriptor, buffer.baseAddress, buffer.count)
      if count == Self.again, patience != nil { continue }
      return try check(count, "read")
    }
  }

  /// Writes all of it.
  package func write(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
      try wait(writing: true)
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = clinux_write(descriptor, rest.baseAddress, rest.count)
      if count == Self.again, patience != nil { continue }
      if count == Self.brokenPipe { throw OtherEndFailed() }
      done += try check(count, "write")
    }
  }

  private func wait(writing: Bool) throws {
    guard let patience else { return }
    var entries = [
      pollfd(fd: descriptor, events: Int16(writing ? POLLOUT : POLLIN), revents: 0),
      pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      let count = poll(&entries, nfds_t(entries.count), patience)
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw Failure("wait for", "the stream", errno: .init(rawValue: errno)) }
      if entries[1].revents != 0 { throw Interrupted() }
      if count > 0 { return }
      throw Failure(
        "copy", nil, "nothing moved in the machine for \(patience / 1000) s", advice: "look for what holds it up there",
        kind: .timedOut)
    }
  }

  private func check<T: FixedWidthInteger>(_ result: T, _ operation: String) throws(Failure) -> T {
    if result < 0 {
      throw Failure(operation, "the stream", errno: .init(rawValue: -Int32(truncatingIfNeeded: result)))
    }
    return result
  }
}
