import MachineSpec
import Testing

@Suite struct NameTests {
  @Test(arguments: ["a", "web", "web-1", "a.b.c", "A_b", "0", String(repeating: "x", count: 64)])
  func good(_ text: String) throws {
    #expect(try MachineName(text).description == text)
    #expect(try ImageName(text).description == text)
    #expect(try HostName(text).description == text)
  }

  @Test(arguments: [
    "", ".", "..", "-rf", ".hidden", "a..b", "a.", "a/b", "a b", "a\n", "a\0b", "\u{e4}", "a\u{301}", "web-", "a.-b",
    String(repeating: "x", count: 65), String(repeating: "x", count: 300),
  ])
  func bad(_ text: String) {
    let error = #expect(throws: SpecError.self) { try MachineName(text) }
    #expect(throws: SpecError.self) { try ImageName(text) }
    #expect(throws: SpecError.self) { try HostName(text) }
    #expect(error?.description.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f } == true)
    #expect(error?.description.utf8.count ?? 0 < 400)
  }

  @Test func errorEscapesAndSaysWhatIsAllowed() {
    let error = #expect(throws: SpecError.self) { try MachineName("a\u{1b}[31m\n") }
    #expect(error?.description.hasPrefix("bad machine name \"a\\x1b[31m\\n\": allowed are 1 to 64 letters") == true)
  }

  @Test func ordered() throws { #expect(try MachineName("a") < MachineName("b")) }
}

@Suite struct UUIDTests {
  let dashed = "01234567-89ab-cdef-fedc-ba9876543210"

  @Test func parsesAndPrintsBothForms() throws {
    let uuid = try MachineUUID(dashed)
    #expect(uuid.description == dashed)
    #expect(uuid.plain == "0123456789abcdeffedcba9876543210")
    #expect(try MachineUUID(uuid.plain.uppercased()) == uuid)
    #expect(try MachineUUID(bytes: uuid.bytes) == uuid)
    #expect(uuid.bytes.first == 0x01 && uuid.bytes.last == 0x10)
  }

  @Test func randomBytesBecomeVersionFour() throws {
    let uuid = try MachineUUID(randomBytes: Array(repeating: UInt8(0xff), count: 16))
    #expect(uuid.description == "ffffffff-ffff-4fff-bfff-ffffffffffff")
    #expect(throws: SpecError.self) { try MachineUUID(bytes: [1, 2, 3]) }
  }

  @Test(arguments: [
    "", "0", "0123456789abcdeffedcba987654321", "0123456789abcdeffedcba987654321g",
    "012345678-9ab-cdef-fedc-ba9876543210", "0123456789abcdeffedcba98765432100", "+123456789abcdeffedcba9876543210",
  ])
  func bad(_ text: String) { #expect(throws: SpecError.self) { try MachineUUID(text) } }
}
