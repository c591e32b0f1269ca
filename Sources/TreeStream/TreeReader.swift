/// Reads the records of a stream. The stream may be anybody's: each byte is checked before it counts, and none traps.
package final class TreeReader {
  private static let capacity = 512 << 10

  private let source: (UnsafeMutableRawBufferPointer) throws -> Int
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
  private var start = 0
  private var end = 0
  private var hasBegun = false
  private var dataLeft = 0

  /// Reads from a source, which says how many bytes it gave; 0 for the end.
  package init(_ source: @escaping (UnsafeMutableRawBufferPointer) throws -> Int) { self.source = source }

  deinit { buffer.deallocate() }

  /// The next record; contents that were not taken are passed over.
  ///
  /// - Throws: `OtherEndFailed` where the stream ends, `TreeStreamError` where it is malformed.
  package func next() throws -> TreeRecord {
    try forEachPiece { _ in }
    if !hasBegun {
      guard try take(TreeRecord.magic.count) == TreeRecord.magic else {
        throw TreeStreamError(reason: "it does not begin as a stream of a tree does")
      }
      hasBegun = true
    }
    let header = try take(TreeRecord.headerSize)
    guard let kind = header.first else { throw OtherEndFailed() }
    let length = header.dropFirst().reversed().reduce(0) { $0 << 8 | Int($1) }
    if kind == TreeRecord.dataKind {
      guard (1...TreeLimits.data).contains(length) else {
        throw TreeStreamError(reason: "a piece of contents is empty or too long")
      }
      dataLeft = length
      return .data(count: length)
    }
    guard length <= TreeLimits.record else { throw TreeStreamError(reason: "a record is too long") }
    let record = try TreeRecord(kind: kind, body: try take(length))
    if record == .failed { throw OtherEndFailed() }
    return record
  }

  /// Calls `body` with the bytes of the piece of contents that `next` announced.
  package func forEachPiece(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    while dataLeft > 0 {
      if start == end { try fill() }
      let count = min(dataLeft, end - start)
      let piece = UnsafeRawBufferPointer(rebasing: buffer[start..<start + count])
      start += count
      dataLeft -= count
      try body(piece)
    }
  }

  private func take(_ count: Int) throws -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(min(count, 4096))
    while result.count < count {
      if start == end { try fill() }
      let piece = buffer[start..<min(end, start + count - result.count)]
      result.append(contentsOf: piece)
      start += piece.count
    }
    return result
  }

  private func fill() throws {
    start = 0
    end = 0
    let count = try source(buffer)
    guard count > 0, count <= Self.capacity else { throw OtherEndFailed() }
    end = count
  }
}
