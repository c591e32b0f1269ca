import MachineSpec
import Testing

@Suite struct LimitsDropInTests {
  @Test func keysOfResourcesAndNothingElse() throws {
    #expect(
      try LimitsDropIn.assignments(["MemoryMax=1G", "Resources.TasksMax=5", "CPUQuota="])
        == ["MemoryMax=1G", "TasksMax=5", "CPUQuota="])
    // A list of processors replaces the one before.
    #expect(try LimitsDropIn.assignments(["AllowedCPUs=0-1"]) == ["AllowedCPUs=", "AllowedCPUs=0-1"])
    for bad in ["MemoryMax", "Hostname=x", "Machine.Hostname=x", "=1", "", "MemoryMax=1\nHostname=x", "Bind=/"] {
      #expect(throws: SpecError.self, "\(bad)") { try LimitsDropIn.assignments([bad]) }
    }
    let error = #expect(throws: SpecError.self) { try LimitsDropIn.assignments(["MemoryMaxx=1"]) }
    #expect(error?.reason.contains("MemoryMax=") == true)
  }

  private func text(_ steps: [[String]]) throws -> (text: String, spec: Spec) {
    var file: Spec.File?
    for step in steps {
      let text = LimitsDropIn.text(file, adding: try LimitsDropIn.assignments(step))
      file = Spec.File(name: "d", bytes: Array(text.utf8))
    }
    let last = try #require(file)
    let (spec, diagnostics) = Spec.parse(files: [last])
    #expect(diagnostics.isEmpty)
    return (String(decoding: last.bytes, as: UTF8.self), spec)
  }

  @Test func theLastWordCounts() throws {
    let kept = try text([
      ["MemoryMax=1G", "TasksMax=5"], ["MemoryMax=2G"], ["TasksMax="], ["AllowedCPUs=0-3"], ["AllowedCPUs=1"],
    ])
    #expect(kept.spec.resources.memoryMax == .bytes(2 << 30))
    #expect(kept.spec.resources.tasksMax == nil)
    #expect(kept.spec.resources.allowedCPUs.description == "1")
    // It takes away what the spec below it says, so the empty value has to stay.
    #expect(kept.text.contains("TasksMax=\n"))
  }

  @Test func itDoesNotGrow() throws {
    let step = ["MemoryMax=1G", "AllowedCPUs=0", "IOReadIOPSMax=/dev/vda 1", "IOReadIOPSMax=\"/a b\" 2", "TasksMax="]
    #expect(try text([step]).text == text(Array(repeating: step, count: 20)).text)
    let disks = try text([["IOReadIOPSMax=/dev/vda 1"], ["IOReadIOPSMax=/dev/vdb 2"], ["IOReadIOPSMax=/dev/vda 3"]])
    #expect(disks.spec.resources.ioReadIOPSMax.map(\.description) == ["/dev/vdb 2", "/dev/vda 3"])
    #expect(try text([["IOReadIOPSMax=/dev/vda 1"], ["IOReadIOPSMax="]]).spec == Spec())
  }
}
