import Linux
import MachineSpec
import Testing

@testable import Images

struct RecordTests {
  private let record = ImageRecord(
    name: "a", created: 5, source: "/x\ny\\z=\u{e9}", layers: ["layer-0"], entries: 1, bytes: 2, prettyName: "P",
    architecture: "x86-64")

  @Test func linesComeBack() throws {
    #expect(try ImageRecord(lines: Array(record.lines.utf8), path: "r") == record)
    #expect(try ImageRecord(lines: Array((record.lines + "new-key=1\n").utf8), path: "r") == record)
  }

  @Test func rubbishIsAnErrorAndNoCrash() {
    let bytes = Array(record.lines.utf8)
    for length in 0..<bytes.count { _ = try? ImageRecord(lines: Array(bytes[..<length]), path: "r") }
    for index in bytes.indices {
      for value: UInt8 in [0, 10, 61, 92, 255] {
        var copy = bytes
        copy[index] = value
        _ = try? ImageRecord(lines: copy, path: "r")
      }
    }
    #expect(throws: Failure.self) { try ImageRecord(lines: [], path: "r") }
    let escaping = record.lines.replacing("layer=layer-0", with: "layer=../../etc")
    #expect(throws: Failure.self) { try ImageRecord(lines: Array(escaping.utf8), path: "r") }
  }

  @Test(arguments: ["", ".", "..", "-rf", "a/b", "a\nb", ".lock", "x.partial", "x.removing", "ä"])
  func badNames(_ text: String) { #expect(throws: SpecError.self) { try ImageName(text) } }

  @Test func longName() throws {
    #expect(throws: SpecError.self) { try ImageName(String(repeating: "a", count: 65)) }
    #expect(try ImageName("debian-13.1_x").description == "debian-13.1_x")
  }

  @Test func osRelease() {
    let fields = RootInspection.fields(Array("A=\"x \\\"y\\\"\" rest\n#B=1\nC='d\\e'\nD\n=x\nE=\"open".utf8))
    #expect(fields["A"] == "x \"y\"" && fields["C"] == "d\\e" && fields["E"] == "open" && fields["#B"] == nil)
  }

  @Test func shiftsThatCannotBe() throws {
    #expect(throws: Failure.self) { try IDShift(from: 0, to: 65535) }
    #expect(throws: Failure.self) { try IDShift(from: 0, to: UInt32.max - 10) }
    #expect(try IDShift(from: 0, to: 65536).reversed == IDShift(from: 65536, to: 0))
  }

  @Test func rubbishInAttributes() {
    for count in 0..<40 {
      for name in [AttributeIDs.capability, AttributeIDs.accessACL] {
        for first: UInt8 in [0, 2] {
          var value = [UInt8](repeating: 2, count: count)
          if count > 0 { value[0] = first }
          _ = try? AttributeIDs.rewrite(name, value) { _ in nil }
        }
      }
    }
    #expect(throws: AttributeIDs.Problem.self) { try AttributeIDs.rewrite(AttributeIDs.capability, [1, 2, 3]) { $0 } }
  }
}
