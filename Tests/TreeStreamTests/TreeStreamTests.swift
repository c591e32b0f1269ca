import Testing

@testable import TreeStream

/// A stream from memory, in pieces of any size.
private func reader(of bytes: [UInt8], piece: Int = 1 << 16) -> TreeReader {
  var rest = bytes[...]
  return TreeReader { buffer in
    let taken = rest.prefix(min(piece, buffer.count))
    rest = rest.dropFirst(taken.count)
    UnsafeMutableRawBufferPointer(rebasing: buffer[..<taken.count]).copyBytes(from: taken)
    return taken.count
  }
}

/// Everything in a stream: its records, and the contents after each other.
private func contents(of bytes: [UInt8], piece: Int = 1 << 16) throws -> (records: [TreeRecord], data: [UInt8]) {
  let reader = reader(of: bytes, piece: piece)
  var records: [TreeRecord] = []
  var data: [UInt8] = []
  while true {
    let record = try reader.next()
    records.append(record)
    try reader.forEachPiece { data += $0 }
    if case .end = record { return (records, data) }
  }
}

private let metadata = TreeMetadata(
  permissions: 0o4755, owner: 1000, group: 65535, seconds: -1, nanoseconds: 999_999_999,
  attributes: [
    .init(name: Array("user.colour".utf8), value: [0, 255, 10]), .init(name: Array("user.empty".utf8), value: []),
  ])

private let records: [TreeRecord] = [
  .directory(name: Array("tree".utf8), metadata), .directory(name: [0xff, 0x1b, 10], nil),
  .fifo(name: Array("pipe".utf8), metadata), .leave,
  .file(
    name: Array(repeating: 120, count: 255), metadata, size: 1 << 40,
    extents: [.init(offset: 0, length: 3), .init(offset: 4096, length: 2)]), .data(count: 3), .data(count: 2),
  .symbolicLink(name: Array("link".utf8), metadata, target: Array("../../etc/passwd".utf8)),
  .hardLink(name: Array("again".utf8), target: [Array("tree".utf8), [0xff, 0x1b, 10]]), .leave,
  .end(entries: 6, bytes: 5),
]

private func encoded(_ records: [TreeRecord]) throws -> [UInt8] {
  var bytes: [UInt8] = []
  let writer = try TreeWriter { bytes += $0 }
  for record in records {
    if case .data(let count) = record {
      let written = try writer.writeData(limit: UInt64(count)) { buffer in
        buffer.copyBytes(from: (0..<count).map { UInt8($0) })
        return count
      }
      #expect(written == count)
    } else {
      try writer.write(record)
    }
  }
  try writer.flush()
  return bytes
}

@Suite("The stream of a tree")
struct TreeStreamTests {
  @Test func whatIsWrittenIsRead() throws {
    let bytes = try encoded(records)
    for piece in [1, 2, 7, 1 << 16] {
      let found = try contents(of: bytes, piece: piece)
      #expect(found.records == records)
      #expect(found.data == [0, 1, 2, 0, 1])
    }
  }

  @Test func muchDataGoesThroughASmallBuffer() throws {
    let count = 3 << 20
    var bytes: [UInt8] = []
    let writer = try TreeWriter { bytes += $0 }
    var done = 0
    while done < count {
      done += try writer.writeData(limit: UInt64(count - done)) { buffer in
        for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: done + index) }
        return buffer.count
      }
    }
    // A record that is longer than the buffer, too.
    let large = TreeRecord.symbolicLink(
      name: [97],
      TreeMetadata(
        permissions: 0, owner: 0, group: 0, seconds: 0, nanoseconds: 0,
        attributes: (0..<20).map { .init(name: [117, UInt8(97 + $0)], value: [UInt8](repeating: 1, count: 65536)) }),
      target: [98])
    try writer.write(large)
    try writer.write(.end(entries: 0, bytes: 0))
    try writer.flush()
    let found = try contents(of: bytes)
    #expect(found.data.count == count)
    #expect(found.data.enumerated().allSatisfy { $0.element == UInt8(truncatingIfNeeded: $0.offset) })
    #expect(found.records.contains(large))
  }

  /// Damage in every place gives a value or an error, and never ends the program.
  @Test func aDamagedStreamNeverTraps() throws {
    let good = try encoded(records)
    var values = 0
    for index in good.indices {
      #expect(throws: OtherEndFailed.self) { try contents(of: Array(good[..<index])) }
      for value: UInt8 in [0, 1, 0x2f, 0x7f, 0x80, 0xff, good[index] &+ 1, good[index] ^ 0x10] {
        var damaged = good
        damaged[index] = value
        if (try? contents(of: damaged)) != nil { values += 1 }
      }
      var longer = good
      longer.insert(0xff, at: index)
      _ = try? contents(of: longer)
      var shorter = good
      shorter.remove(at: index)
      _ = try? contents(of: shorter)
    }
    // Some places hold anything: a time, the bytes of a name.
    #expect(values > 0)
    var state: UInt64 = 1
    for _ in 0..<2000 {
      var damaged = good
      for _ in 0..<4 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        damaged[Int(state >> 33) % damaged.count] = UInt8(truncatingIfNeeded: state >> 17)
      }
      _ = try? contents(of: damaged)
    }
  }

  @Test(arguments: [
    [], Array(".".utf8), Array("..".utf8), Array("a/b".utf8), Array("/".utf8), [97, 0, 98],
    [UInt8](repeating: 97, count: 256),
  ])
  func noNameLeadsElsewhere(_ name: [UInt8]) throws {
    let bad: [TreeRecord] = [
      .directory(name: name, nil), .fifo(name: name, metadata),
      .file(name: name, metadata, size: 0, extents: []),
      .symbolicLink(name: name, metadata, target: [97]), .hardLink(name: name, target: [[97]]),
      .hardLink(name: [97], target: [name]), .hardLink(name: [97], target: [[97], name]),
    ]
    for record in bad {
      let bytes = try encoded([record, .end(entries: 1, bytes: 0)])
      #expect(throws: TreeStreamError.self) { try contents(of: bytes) }
    }
  }

  @Test func extentsFitTheirFile() throws {
    let bad: [(UInt64, [TreeExtent])] = [
      (10, [.init(offset: 0, length: 11)]), (10, [.init(offset: 5, length: 2), .init(offset: 4, length: 1)]),
      (10, [.init(offset: .max, length: 2)]), (10, [.init(offset: 1, length: 0)]), (.max, []),
      (10, [.init(offset: 0, length: 5), .init(offset: 4, length: 2)]),
    ]
    for (size, extents) in bad {
      let bytes = try encoded([.file(name: [97], metadata, size: size, extents: extents)])
      #expect(throws: TreeStreamError.self) { try contents(of: bytes) }
    }
  }

  @Test func aLyingLengthReservesNoMemory() throws {
    // A record, a piece of contents, and a list of attributes that say they are 4 GiB.
    for lie in [[3, 0xff, 0xff, 0xff, 0xff], [4, 0xff, 0xff, 0xff, 0xff], [4, 0, 0, 0, 0]] as [[UInt8]] {
      #expect(throws: TreeStreamError.self) { try contents(of: TreeRecord.magic + lie) }
    }
    var bytes = try encoded([.fifo(name: [97], metadata)])
    let count = TreeRecord.magic.count + TreeRecord.headerSize + 4 + 1 + 24
    bytes.replaceSubrange(count..<count + 4, with: [0xff, 0xff, 0xff, 0x7f])
    #expect(throws: TreeStreamError.self) { try contents(of: bytes) }
  }

  @Test func theOtherEndsFailureIsItsOwnToTell() throws {
    #expect(throws: OtherEndFailed.self) { try contents(of: try encoded([.leave, .failed])) }
    #expect(throws: OtherEndFailed.self) { try contents(of: []) }
    #expect(throws: TreeStreamError.self) { try contents(of: Array("something else".utf8)) }
  }
}
