import CLinux
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

  /// Wraps an open descriptor, which stays the caller's.
  ///
  /// - Parameters:
  ///   - descriptor: an end of a pipe.
  ///   - stop: what becomes readable when all is to stop, or -1; with it the pipe must not block.
  package init(_ descriptor: Int32, stop: Int32 = -1) {
    self.descriptor = descriptor
    self.stop = stop
  }

  private static let again = -11
  private static let brokenPipe = -32

  /// Reads what is there.
  ///
  /// - Returns: how many bytes; 0 at the end.
  package func read(_ buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    while true {
      if stop >= 0 { try wait(writing: false) }
      let count = clinux_read(descriptor, buffer.baseAddress, buffer.count)
      if count == Self.again, stop >= 0 { continue }
      return try check(count, "read")
    }
  }

  /// Writes all of it.
  package func write(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
      if stop >= 0 { try wait(writing: true) }
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = clinux_write(descriptor, rest.baseAddress, rest.count)
      if count == Self.again, stop >= 0 { continue }
      if count == Self.brokenPipe { throw OtherEndFailed() }
      done += try check(count, "write")
    }
  }

  private func wait(writing: Bool) throws {
    if try check(clinux_wait_stream(descriptor, writing ? 1 : 0, stop), "wait for") == 0 { throw Interrupted() }
  }

  private func check<T: FixedWidthInteger>(_ result: T, _ operation: String) throws(Failure) -> T {
    if result < 0 {
      throw Failure(operation, "the stream", errno: .init(rawValue: -Int32(truncatingIfNeeded: result)))
    }
    return result
  }
}
