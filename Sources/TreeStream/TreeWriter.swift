/// Writes the records of a stream, through a buffer.
package final class TreeWriter {
  private static let capacity = 512 << 10
  /// A piece of contents that is smaller than this waits for an empty buffer.
  private static let smallestPiece = 64 << 10

  private let sink: (UnsafeRawBufferPointer) throws -> Void
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
  private var used = 0

  /// Begins a stream.
  ///
  /// - Parameter sink: takes all of what it is given.
  package init(_ sink: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
    self.sink = sink
    try append(TreeRecord.magic)
  }

  deinit { buffer.deallocate() }

  /// Writes a record that is no piece of contents.
  package func write(_ record: TreeRecord) throws { try append(record.encoded) }

  /// Writes a piece of contents that is read straight into the buffer.
  ///
  /// - Parameters:
  ///   - limit: the most bytes that it may have, at least 1.
  ///   - fill: fills the buffer from its start and says how far.
  /// - Returns: how many bytes it has; with 0 nothing is written.
  package func writeData(limit: UInt64, _ fill: (UnsafeMutableRawBufferPointer) throws -> Int) throws -> Int {
    let wanted = Int(clamping: min(limit, UInt64(Self.capacity)))
    let room = Self.capacity - used - TreeRecord.headerSize
    if room < min(wanted, Self.smallestPiece) { try flush() }
    let start = used + TreeRecord.headerSize
    let count = try fill(
      UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + min(wanted, Self.capacity - start)]))
    if count <= 0 { return 0 }
    UnsafeMutableRawBufferPointer(rebasing: buffer[used..<start]).copyBytes(
      from: TreeRecord.data(count: count).encoded)
    used = start + count
    return count
  }

  /// Sends what is still in the buffer.
  package func flush() throws {
    if used == 0 { return }
    let filled = UnsafeRawBufferPointer(rebasing: buffer[..<used])
    used = 0
    try sink(filled)
  }

  private func append(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      if used == Self.capacity { try flush() }
      let piece = rest.prefix(Self.capacity - used)
      UnsafeMutableRawBufferPointer(rebasing: buffer[used..<used + piece.count]).copyBytes(from: piece)
      used += piece.count
      rest = rest.dropFirst(piece.count)
    }
  }
}
