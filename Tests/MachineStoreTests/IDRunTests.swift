import Glibc
import Linux
import MachineSpec
import Testing

@testable import MachineStore

private func own(_ map: [(UInt32, UInt32, UInt32)], groups: [(UInt32, UInt32, UInt32)]? = nil) -> OwnIDs {
  func extents(_ map: [(UInt32, UInt32, UInt32)]) -> [IDExtent] {
    map.map { IDExtent(inside: $0.0, outside: $0.1, count: $0.2) }
  }
  return OwnIDs(users: extents(map), groups: extents(groups ?? map))
}

/// Where ids of machines come from, in each kind of user namespace.
@Suite struct IDRunTests {
  @Test func aHostHasWhatSystemdSetsAside() {
    let runs = IDRun.runs(of: own([(0, 0, .max)]))
    #expect(runs == [.host])
    #expect(runs.first?.base == 0x80000 && runs.first?.last == 0x6fff_ffff)
  }

  @Test func aUserHasAllButTheUser() {
    let one = own([(0, 1000, 1), (1, 100_000, 65536)])
    #expect(one.standsForUser && IDRun.runs(of: one) == [IDRun(base: 1, slots: 1)])
    let pieces = own(
      [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 131_072)], groups: [(0, 100, 1), (1, 100_000, 196_608)])
    #expect(IDRun.runs(of: pieces) == [IDRun(base: 1, slots: 1), IDRun(base: 65537, slots: 2)])
  }

  @Test func aMachineKeepsItsFirstIDsForItself() {
    #expect(IDRun.runs(of: own([(0, 524_288, 65536)])).isEmpty)
    #expect(IDRun.runs(of: own([(0, 524_288, 5 * 65536)])) == [IDRun(base: 65536, slots: 4)])
    // What is no whole slot is nobody's.
    #expect(
      IDRun.runs(of: own([(0, 524_288, 70000), (100_000, 700_000, 100_000)])) == [IDRun(base: 131_072, slots: 1)])
  }

  @Test func aLargeRangeBeginsWhereItEnds() {
    let run = IDRun(base: 65536, slots: 4)
    #expect([1, 2, 4, 5].map { run.starts(of: $0 * 65536) } == [4, 3, 1, 0])
    #expect(run.starts(of: 0) == 0)
  }

  @Test func countingKnowsWhatIsTaken() {
    let runs = [IDRun(base: 65536, slots: 4)]
    #expect(UIDRanges.countFree(in: runs, taken: [], foreign: []) == 4)
    #expect(
      UIDRanges.countFree(
        in: runs, taken: [UIDRange(base: 65536, count: 131_072)], foreign: [UIDRange(base: 262_144, count: 1)]) == 1)
    #expect(UIDRanges.countFree(in: runs, taken: [], foreign: [UIDRange(base: 0, count: .max - 1)]) == 0)
  }

  /// A namespace beside ours that stands for the same user has all of our ids and is no machine.
  @Test func mapsOfOthersTakeTheirIDsAndThoseOfOurLikeDoNot() {
    let ours = own([(0, 1000, 1), (1, 100_000, 65536)]).users
    func ranges(_ map: [(UInt32, UInt32, UInt32)], isHost: Bool) -> [UIDRange] {
      ForeignIDs.ranges(of: own(map).users, own: ours, isHost: isHost)
    }
    #expect(ranges([(0, 1000, 1), (1, 100_000, 65536)], isHost: false).isEmpty)
    #expect(ranges([(0, 0, 1), (1, 1, 65536)], isHost: false).isEmpty)
    #expect(ranges([(0, 1, 65536)], isHost: false) == [UIDRange(base: 1)])
    #expect(ranges([(0, .max, 65536)], isHost: false).isEmpty)
    #expect(ranges([(0, 0, .max)], isHost: true).isEmpty)
    #expect(ranges([(0, 524_288, 65536)], isHost: true) == [UIDRange(base: 524_288)])
  }
}

/// Ranges in a folder of their own.
@Suite struct UIDRangesTests {
  private func withRanges(_ runs: [IDRun], _ body: (UIDRanges) throws -> Void) throws {
    var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Failure("make a folder", errno: .init(rawValue: errno)) }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let folder = try Descriptor.open(path, .directory)
    defer {
      for name in (try? folder.names()) ?? [] { unlink("\(path)/\(name)") }
      rmdir(path)
    }
    try body(UIDRanges(folder: folder, place: path, runs: runs))
  }

  @Test func aLargeRangeIsTakenAndGivenBackWhole() throws {
    try withRanges([IDRun(base: 65536, slots: 4)]) { ranges in
      let (large, small) = (try MachineName("large"), try MachineName("small"))
      let first = try ranges.take(for: large, count: 3 * 65536, isMachine: { _ in true }, foreign: [])
      #expect(first.count == 3 * 65536 && [65536, 131_072].contains(first.base))
      #expect(try ranges.folder.names().count == 4, "three and the lock")
      let second = try ranges.take(for: small, isMachine: { _ in true }, foreign: [])
      #expect(!second.overlaps(first))
      let full = #expect(throws: Failure.self) {
        try ranges.take(for: try MachineName("more"), isMachine: { _ in true }, foreign: [])
      }
      #expect(full?.kind == .refused)
      ranges.giveBack(first, of: large)
      #expect(try ranges.folder.names().sorted() == [".lock", "\(second.base)"])
    }
  }

  @Test func whatIsForeignIsNotTaken() throws {
    try withRanges([IDRun(base: 1, slots: 2)]) { ranges in
      let range = try ranges.take(
        for: try MachineName("m"), isMachine: { _ in true }, foreign: [UIDRange(base: 0, count: 10)])
      #expect(range == UIDRange(base: 65537))
    }
  }
}
