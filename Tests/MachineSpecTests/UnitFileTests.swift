import MachineSpec
import Testing

@Suite struct UnitFileTests {
  private func read(_ text: String) -> UnitFile { UnitFile(name: "f", bytes: Array(text.utf8)) }

  @Test func sectionsKeysCommentsAndWhiteSpace() {
    let file = read("\u{feff}# c\n ; c\n[A]\r\n  k = v w  \nk=\n\n[B]\nx=y=z # no comment")
    #expect(file.diagnostics.isEmpty)
    #expect(file.headers.map(\.name) == ["A", "B"])
    #expect(file.assignments.map(\.section) == ["A", "A", "B"])
    #expect(file.assignments.map(\.key) == ["k", "k", "x"])
    #expect(file.assignments.map(\.value) == ["v w", "", "y=z # no comment"])
    #expect(file.assignments.map(\.line) == [4, 5, 8])
  }

  @Test func joinedLinesBeginWhereTheyBegin() {
    let file = read("[A]\nk=a\\\n# between\n  b \\\nc\nl=x\\\\\nm=end\\")
    #expect(file.diagnostics.isEmpty)
    #expect(file.assignments.map(\.value) == ["a   b  c", "x\\\\", "end"])
    #expect(file.assignments.map(\.line) == [2, 6, 7])
  }

  @Test(arguments: [
    ("x=1", "f:1: \"x=\" stands before any [Section]"),
    ("[A]\nword", "f:2: \"word\" is neither [Section], Key=Value nor a comment"),
    ("[A]\n=v", "f:2: \"=v\" is neither [Section], Key=Value nor a comment"),
    ("[A", "f:1: \"[A\" is not a section header, write [Section]"),
    ("[]", "f:1: \"[]\" is not a section header, write [Section]"),
    ("[A]\n\nk=a\0b", "f:3: the line of \"k\" has a NUL byte or is not UTF-8"),
  ])
  func badSyntax(_ text: String, _ finding: String) {
    #expect(read(text).diagnostics.map(\.description) == [finding])
  }

  @Test func brokenTextIsAnErrorAndTheRestIsRead() {
    let file = UnitFile(name: "f", bytes: Array("[A]\nk=".utf8) + [0xff, 0xfe] + Array("\nl=1".utf8))
    #expect(file.diagnostics.map(\.description) == ["f:2: the line of \"k\" has a NUL byte or is not UTF-8"])
    #expect(file.assignments.map(\.key) == ["l"])
  }

  @Test func keysBelowABrokenHeaderAreDropped() {
    let file = read("[A]\nk=1\n[B\nk=2\n[C]\nk=3")
    #expect(file.assignments.map(\.value) == ["1", "3"])
    #expect(file.diagnostics.count == 1)
  }

  @Test func sizesAreBounded() {
    let big = UnitFile(name: "f", bytes: Array(repeating: 0x0a, count: UnitFile.maximumSize + 1))
    #expect(big.diagnostics.map(\.description) == ["f:1: the file has 1048577 bytes, allowed are 1048576"])
    let long = read("[A]\nk=" + String(repeating: "x", count: UnitFile.maximumLineLength))
    #expect(long.diagnostics.count == 1 && long.assignments.isEmpty)
    let noise = read(String(repeating: "a\n", count: 500_000))
    #expect(noise.diagnostics.count == 1001)
    #expect(noise.diagnostics.last?.message == "too many findings, the rest is left out")
    let joined = read("[A]\nk=" + String(repeating: "\\\n", count: 500_000))
    #expect(joined.diagnostics.count == 0 && joined.assignments.map(\.value) == [""])
  }
}
