import Linux
import Testing

@testable import Rootless

private let user = OrdinaryUser(uid: 1000, gid: 100, name: "ada")

private func lines(_ text: String) -> [UIDRange] { SubordinateIDs.ranges(AccountFile.lines(in: text), of: user) }

@Suite struct SubordinateIDsTests {
  @Test func linesAreFoundByNameAndByNumberAndNoOthers() {
    let text = "ada:100000:65536\nadam:1:9\n:5:5\n1000:300000:10\nroot:7:7\n10000:1:1\n"
    #expect(lines(text) == [UIDRange(base: 100_000), UIDRange(base: 300_000, count: 10)])
  }

  @Test(arguments: [
    "ada", "ada:", "ada:x:1", "ada:1:0", "ada:0:65536", "ada:4294967295:2", "ada:-1:5", "ada:1:2:3", "",
  ])
  func badLinesSayNothing(line: String) { #expect(lines(line).isEmpty) }

  @Test func aUserWithoutANameIsFoundByNumberOnly() {
    let nobody = OrdinaryUser(uid: 1000, gid: 100, name: nil)
    #expect(
      SubordinateIDs.ranges(AccountFile.lines(in: ":1:2\n1000:300000:10"), of: nobody)
        == [UIDRange(base: 300_000, count: 10)])
  }

  @Test func theFreeRangeIsBesideWhatOthersHave() {
    #expect(SubordinateIDs.free(beside: []) == UIDRange(base: 100_000))
    #expect(SubordinateIDs.free(beside: [UIDRange(base: 100_000), UIDRange(base: 165_536)]).base == 231_072)
    #expect(SubordinateIDs.free(beside: [UIDRange(base: 90_000, count: 20_000)]).base == 110_000)
    // Where machines of the host's root are nothing is suggested.
    #expect(SubordinateIDs.free(beside: [UIDRange(base: 100_000, count: 400_000)]).base == 0x7000_0000)
  }
}

@Suite struct ParentMapTests {
  private func map(_ users: [UIDRange], _ groups: [UIDRange]) -> ParentMap {
    ParentMap(of: user, SubordinateIDs(users: users, groups: groups))
  }

  @Test func theUserIsRootAndTheOthersFollow() {
    let map = map([UIDRange(base: 100_000, count: 131_072)], [UIDRange(base: 200_000, count: 131_072)])
    #expect(map.machines == 2)
    #expect(ParentMap.arguments(map.users) == ["0", "1000", "1", "1", "100000", "131072"])
    #expect(ParentMap.arguments(map.groups) == ["0", "100", "1", "1", "200000", "131072"])
  }

  /// A map of a machine may refer to one line of this one only.
  @Test func noMachinesIDsAreInTwoLines() {
    let users = [UIDRange(base: 100_000, count: 100_000), UIDRange(base: 300_000, count: 100_000)]
    let map = map(users, [UIDRange(base: 400_000, count: 200_000)])
    #expect(map.machines == 2)
    #expect(ParentMap.arguments(map.users) == ["0", "1000", "1", "1", "100000", "65536", "65537", "300000", "65536"])
    #expect(ParentMap.arguments(map.groups) == ["0", "100", "1", "1", "400000", "131072"])
  }

  @Test func noIDIsMappedTwice() {
    let ids = [UIDRange(base: 100_000), UIDRange(base: 100_000), UIDRange(base: 130_000), UIDRange(base: 500)]
    let map = map(ids, [UIDRange(base: 100_000, count: 10 * 65536)])
    #expect(map.machines == 1)
  }

  @Test func aRangeThatIsTooSmallIsNoMachines() {
    #expect(map([UIDRange(base: 100_000, count: 65535)], [UIDRange(base: 100_000)]).machines == 0)
    #expect(map([UIDRange(base: 100_000)], []).machines == 0)
  }
}
