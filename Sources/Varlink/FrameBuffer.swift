/// Collects the bytes of a stream and cuts it into messages at each NUL.
public struct FrameBuffer: Sendable {
  /// A message was longer than the limit; the stream cannot be followed any more.
  public struct TooLong: Error, Sendable, CustomStringConvertible {
    /// The greatest length that was allowed, in bytes.
    public var limit: Int
    /// One lower-case line.
    public var description: String { "a message is longer than \(limit) bytes" }
  }

  /// The greatest length of one message in bytes, its NUL not counted.
  public let limit: Int
  private var bytes: [UInt8] = []
  private var start = 0
  private var scanned = 0

  /// Makes an empty buffer.
  ///
  /// - Parameter limit: the greatest length of one message in bytes.
  public init(limit: Int = 1 << 20) {
    self.limit = limit
  }

  /// The number of bytes that wait to be taken.
  public var count: Int { bytes.count - start }

  /// A whole message waits to be taken.
  public var holdsMessage: Bool { bytes[scanned...].contains(0) }

  /// Adds bytes that came from the stream.
  ///
  /// What is held grows to the limit and one such piece at most, if every message is taken before the next piece.
  ///
  /// - Parameter piece: what one `recv` delivered.
  public mutating func append(_ piece: some Sequence<UInt8>) {
    if start > 0 {
      bytes.removeFirst(start)
      scanned -= start
      start = 0
    }
    bytes.append(contentsOf: piece)
  }

  /// Takes the next whole message.
  ///
  /// - Returns: the message without its NUL, or nil until more bytes have come.
  /// - Throws: `TooLong`, each time from then on.
  public mutating func next() throws(TooLong) -> [UInt8]? {
    // What was searched before holds no NUL: searching it again with every piece would be quadratic.
    guard let end = bytes[scanned...].firstIndex(of: 0) else {
      scanned = bytes.count
      guard count <= limit else { throw TooLong(limit: limit) }
      return nil
    }
    guard end - start <= limit else {
      scanned = end
      throw TooLong(limit: limit)
    }
    let frame = Array(bytes[start..<end])
    start = end + 1
    scanned = start
    if start == bytes.count {
      // An idle connection keeps no memory.
      bytes = []
      start = 0
      scanned = 0
    }
    return frame
  }
}
