import CLinux
import Linux

/// What a change of owner takes from a file: its set-id bits and its capabilities, written down before the change.
///
/// An append-only file of records, each with its length and a checksum, so that a record cut off by a kill counts as not
/// written. The first one says which shift it belongs to, by its two ranges whatever the direction: what is recorded is
/// true before and after, so that a shift that was cut off may be finished or taken back.
final class ShiftJournal {
  /// A file that would lose something.
  struct Record {
    var inode: UInt64
    var modifiedSeconds: Int64
    var modifiedNanoseconds: UInt32
    var size: UInt64
    var mode: UInt32
    /// The value of `security.capability`, empty when there is none.
    var capability: [UInt8]

    /// Whether a file is the one that was recorded: an inode number alone may have been used again.
    func describes(_ stat: clinux_stat) -> Bool {
      inode == stat.inode && size == stat.size && modifiedSeconds == stat.modified_seconds
        && modifiedNanoseconds == stat.modified_nanoseconds && mode & FileKind.mask == stat.kind
    }
  }

  private static let name = "ownership.journal"
  private static let magic: UInt64 = 0x656e_676f_776e_3031
  private static let largestFile = 256 << 20

  private let state: Int32
  private let file: OwnedDescriptor
  private var buffer: [UInt8] = []

  /// The records of a shift that was cut off, by inode.
  private(set) var earlier: [UInt64: Record] = [:]
  /// Whether anything is recorded at all.
  private(set) var isEmpty = true

  /// Opens the journal of a shift, or begins one.
  ///
  /// - Parameters:
  ///   - state: the folder it lies in.
  ///   - top: the directory that is shifted.
  ///   - shift: the ranges.
  /// - Throws: `Failure` when another tree's or another range's shift was cut off there.
  init(state: Int32, top: clinux_stat, shift: IDShift) throws(Failure) {
    self.state = state
    // O_RDWR | O_CREAT | O_APPEND
    file = OwnedDescriptor(
      try Calls.check(
        clinux_openat(state, Self.name.asName, 0o2 | 0o100 | 0o2000, 0o600), "open the journal", Self.name))
    var header = Bytes()
    header.put(Self.magic)
    header.put(top.inode)
    header.put(UInt64(min(shift.from, shift.to)))
    header.put(UInt64(max(shift.from, shift.to)))
    header.put(UInt64(shift.count))

    let stored = try Calls.readAll(file.raw, limit: Self.largestFile, path: Self.name)
    var reader = BytesReader(stored)
    var valid = 0
    if let first = reader.record() {
      guard first == header.bytes else {
        throw Failure(
          "shift owners", Self.name, "a shift of another tree or between other ranges was cut off here",
          advice: "finish that one first, with the ranges that it had")
      }
      valid = reader.offset
      while let bytes = reader.record() {
        valid = reader.offset
        guard let record = Self.decode(bytes) else { continue }
        // The first word counts: a later one may have been taken from a file that had lost something already.
        if earlier[record.inode] == nil { earlier[record.inode] = record }
        isEmpty = false
      }
    }
    // What a kill left of a record would hide every record after it.
    try Calls.check(clinux_ftruncate(file.raw, Int64(valid)), "cut the journal", Self.name)
    if valid == 0 {
      buffer = header.framed()
      try flush()
    }
  }

  /// Writes a record down, to be made safe by `flush`.
  func append(_ record: Record) {
    var bytes = Bytes()
    bytes.put(record.inode)
    bytes.put(UInt64(bitPattern: record.modifiedSeconds))
    bytes.put(UInt64(record.modifiedNanoseconds))
    bytes.put(record.size)
    bytes.put(UInt64(record.mode))
    bytes.bytes += record.capability
    buffer += bytes.framed()
    isEmpty = false
  }

  /// Brings what was appended to the disk: only then may the files lose what is recorded.
  func flush() throws(Failure) {
    if buffer.isEmpty { return }
    var problem: Failure?
    buffer.withUnsafeBytes { bytes in
      do throws(Failure) {
        try Calls.writeAll(file.raw, bytes, path: Self.name)
      } catch {
        problem = error
      }
    }
    if let problem { throw problem }
    buffer.removeAll(keepingCapacity: true)
    try Calls.check(clinux_fdatasync(file.raw), "sync the journal", Self.name)
  }

  /// Ends the shift: the journal goes, not before everything it stood for.
  ///
  /// - Parameter top: the shifted directory.
  func finish(_ top: Int32) throws(Failure) {
    // One file system brings changes of modes, attributes and names to the disk in their order; two know no order.
    let isElsewhere =
      try Calls.stat(file.raw, Calls.itself, path: Self.name).device
      != Calls.stat(top, Calls.itself, path: Self.name).device
    if !isEmpty && isElsewhere { try Calls.check(clinux_syncfs(top), "sync", Self.name) }
    try Calls.check(clinux_unlinkat(state, Self.name.asName, 0), "remove the journal", Self.name)
  }

  private static func decode(_ bytes: [UInt8]) -> Record? {
    var reader = BytesReader(bytes)
    guard let inode = reader.word(), let seconds = reader.word(), let nanoseconds = reader.word(),
      let size = reader.word(), let mode = reader.word()
    else { return nil }
    return Record(
      inode: inode, modifiedSeconds: Int64(bitPattern: seconds),
      modifiedNanoseconds: UInt32(truncatingIfNeeded: nanoseconds), size: size,
      mode: UInt32(truncatingIfNeeded: mode), capability: Array(bytes[reader.offset...]))
  }
}

/// Words of 64 bits, lowest byte first.
private struct Bytes {
  var bytes: [UInt8] = []

  mutating func put(_ word: UInt64) {
    for shift in stride(from: UInt64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
  }

  /// The bytes behind their number and their checksum.
  func framed() -> [UInt8] {
    var frame = Bytes()
    frame.put(UInt64(bytes.count))
    frame.put(checksum(bytes))
    return frame.bytes + bytes
  }
}

private struct BytesReader {
  private let bytes: [UInt8]
  private(set) var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  mutating func word() -> UInt64? {
    guard bytes.count - offset >= 8 else { return nil }
    defer { offset += 8 }
    return (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }

  /// The next whole record; nil at the end and at the first that is not whole.
  mutating func record() -> [UInt8]? {
    guard let count = word(), let sum = word(), count <= UInt64(bytes.count - offset) else { return nil }
    let body = Array(bytes[offset..<offset + Int(count)])
    guard checksum(body) == sum else { return nil }
    offset += Int(count)
    return body
  }
}

/// FNV-1a, which tells a whole record from a torn one; nobody hostile writes here.
private func checksum(_ bytes: [UInt8]) -> UInt64 {
  bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}
