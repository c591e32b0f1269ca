import MachinePlan
import MachineSpec
import StageProtocol
import Testing

private func capacity() -> HostCapacity {
  var capacity = HostCapacity()
  capacity.memory = 8 << 30
  capacity.tasks = 40_000
  capacity.disks = ["/dev/vda": "254:0", "/srv": "254:0", "/dev/vdb": "254:16"]
  return capacity
}

private func limits(_ text: String) throws -> [Limit] {
  let (spec, diagnostics) = Spec.parse(files: [Spec.File(name: "t", bytes: Array("[Resources]\n\(text)\n".utf8))])
  #expect(diagnostics.isEmpty, "\(text)")
  return try spec.resources.limits(on: capacity())
}

private func writes(_ limits: [Limit]) -> [String] { limits.flatMap(\.writes).map { "\($0.file)=\($0.value)" } }

@Suite struct LimitsTests {
  @Test(arguments: [
    ("MemoryMax=1G", ["memory.max=1073741824"], LimitProperty.Value.number(1 << 30)),
    ("MemoryMax=infinity", ["memory.max=max"], .number(.max)),
    ("MemoryHigh=12.5%", ["memory.high=1073741824"], .number(1 << 30)),
    ("MemoryLow=0", ["memory.low=0"], .number(0)), ("MemoryMin=1M", ["memory.min=1048576"], .number(1 << 20)),
    ("MemorySwapMax=0", ["memory.swap.max=0"], .number(0)),
    ("CPUQuota=150%", ["cpu.max=150000 100000"], .number(1_500_000)),
    ("CPUQuota=0.5%", ["cpu.max=5000 1000000"], .number(5000)),
    ("CPUQuota=0.01%", ["cpu.max=1000 1000000"], .number(100)),
    ("CPUWeight=50", ["cpu.idle=0", "cpu.weight=50"], .number(50)),
    ("CPUWeight=idle", ["cpu.idle=1"], .number(0)),
    ("AllowedCPUs=0-1,9", ["cpuset.cpus=0-1,9"], .bits([3, 2])),
    ("IOWeight=1000", ["io.weight=default 1000"], .number(1000)),
    ("IOReadBandwidthMax=/dev/vda 5M", ["io.max=254:0 rbps=5000000"], .device(path: "/dev/vda", limit: 5_000_000)),
    ("IOWriteBandwidthMax=/srv 1K", ["io.max=254:0 wbps=1000"], .device(path: "/srv", limit: 1000)),
    ("IOReadIOPSMax=/dev/vdb 7", ["io.max=254:16 riops=7"], .device(path: "/dev/vdb", limit: 7)),
    ("IOWriteIOPSMax=/dev/vdb infinity", ["io.max=254:16 wiops=max"], .device(path: "/dev/vdb", limit: .max)),
    ("TasksMax=512", ["pids.max=512"], .number(512)), ("TasksMax=10%", ["pids.max=4000"], .number(4000)),
  ])
  func eachInBothForms(text: String, files: [String], property: LimitProperty.Value) throws {
    let found = try limits(text)
    #expect(writes(found) == files)
    #expect(found.map(\.property.value) == [property])
    #expect(found.allSatisfy { $0.key == text.prefix { $0 != "=" } })
  }

  @Test func systemdCallsThemAsItsManualDoes() throws {
    #expect(try limits("CPUQuota=10%").map(\.property.name) == ["CPUQuotaPerSecUSec"])
    #expect(try limits("AllowedCPUs=0").map(\.property.name) == ["AllowedCPUs"])
    #expect(try limits("TasksMax=1").map(\.unsetProperty.value) == [.number(.max)])
  }

  @Test func theWayBackIsNoLimit() throws {
    for (text, files) in [
      ("MemoryMax=1", ["memory.max=max"]), ("MemoryMin=1", ["memory.min=0"]), ("CPUQuota=1%", ["cpu.max=max 100000"]),
      ("CPUWeight=idle", ["cpu.idle=0", "cpu.weight=100"]), ("AllowedCPUs=1", ["cpuset.cpus="]),
      ("IOReadIOPSMax=/dev/vda 1", ["io.max=254:0 riops=max"]), ("TasksMax=1", ["pids.max=max"]),
    ] {
      let limit = try #require(try limits(text).first)
      #expect(writes([limit.reset]) == files, "\(text)")
      #expect(limit.reset.reset == limit)
    }
  }

  @Test func thereIsOneOfEach() {
    #expect(Limit.all.map(\.key).count == 11 && Set(Limit.all.map(\.key)).count == 11)
  }

  @Test func onlyWhatChangesIsWritten() throws {
    let old = try limits("MemoryMax=1G\nTasksMax=100\nCPUQuota=50%")
    let new = try limits("MemoryMax=2G\nTasksMax=100\nIOWeight=10")
    let changes = Limit.changes(from: old, to: new)
    #expect(writes(changes.map(\.limit)) == ["cpu.max=max 100000", "memory.max=2147483648", "io.weight=default 10"])
    // And what is taken back is what there was.
    #expect(
      writes(changes.map(\.before)) == ["cpu.max=50000 100000", "memory.max=1073741824", "io.weight=default 100"])
    #expect(Limit.changes(from: new, to: new).isEmpty)
  }

  @Test func twoPathsToOneDiskAreOneLimit() throws {
    #expect(writes(try limits("IOReadIOPSMax=/dev/vda 1\nIOReadIOPSMax=/srv 2")) == ["io.max=254:0 riops=2"])
    #expect(try limits("IOReadIOPSMax=/dev/vda 1\nIOReadIOPSMax=/dev/vdb 2").count == 2)
  }

  @Test func whatIsNoDiskIsRefusedByName() {
    let error = #expect(throws: PlanError.self) { try limits("IOReadIOPSMax=/nowhere 1") }
    #expect(error?.reason.contains("IOReadIOPSMax=") == true && error?.reason.contains("/nowhere") == true)
  }

  /// Shares of the greatest numbers do not overflow.
  @Test func sharesOfMuch() throws {
    var much = HostCapacity()
    (much.memory, much.tasks) = (.max, .max)
    let text = "[Resources]\nMemoryMax=100%\nMemoryHigh=99.99%\nTasksMax=0.01%\n"
    let spec = Spec.parse(files: [Spec.File(name: "t", bytes: Array(text.utf8))]).spec
    #expect(try spec.resources.limits(on: much).count == 3)
  }
}

@Suite struct LimitsPlaceTests {
  private func plan(_ text: String, _ change: (inout CgroupFacts) -> Void) throws -> CgroupPlan {
    var host = HostFacts()
    host.cgroup.layout = .unified
    host.cgroup.mount = "/cg"
    host.cgroup.own = "/cg/own"
    host.capacity = capacity()
    change(&host.cgroup)
    let spec = Spec.parse(files: [Spec.File(name: "t", bytes: Array((text + "[Network]\nMode=none\n").utf8))]).spec
    let made = try MachinePlan(spec: spec, host: host, machine: PlannerTests.standard())
    for case .cgroup(let group) in made.hostSteps {
      // The plan that is printed says all of it.
      let lines = HostStep.cgroup(group).lines
      #expect(lines.count == 1 + group.limits.count + (group.controllers.isEmpty ? 0 : 1))
      return group
    }
    throw PlannerTests.Missing()
  }

  private let all = ["cpu", "cpuset", "io", "memory", "pids"]

  @Test func belowTheTopmostGroupControllersAreEnabled() throws {
    let group = try plan("[Resources]\nAllowedCPUs=0\n") { ($0.controllers, $0.canEnable) = (all, true) }
    #expect(group.parent == "/cg/own" && group.controllers == all)
    #expect(writes(group.limits) == ["cpuset.cpus=0"])
    // What nobody asked for costs nothing: processors are not shared out without need.
    #expect(
      try plan("") { ($0.controllers, $0.canEnable) = (all, true) }.controllers == ["cpu", "io", "memory", "pids"])
  }

  @Test func aGroupWithProcessesPassesOnWhatItDidAlready() throws {
    let facts: (inout CgroupFacts) -> Void = { ($0.controllers, $0.enabled) = (all, ["memory"]) }
    #expect(try plan("[Resources]\nMemoryMax=1G\n", facts).controllers == ["memory"])
    let error = #expect(throws: PlanError.self) { try plan("[Resources]\nTasksMax=9\n", facts) }
    #expect(error?.reason.contains("TasksMax=") == true && error?.reason.contains("/cg/own") == true)
    #expect(error?.advice?.contains("cgroup.procs") == true && error?.isHostsFault == true)
  }

  @Test func theGroupAboveWhereItCan() throws {
    let facts: (inout CgroupFacts) -> Void = {
      $0.controllers = all
      $0.above = .init(path: "/cg", controllers: all, enabled: [], canEnable: true)
    }
    let group = try plan("[Resources]\nTasksMax=9\n", facts)
    #expect(group.parent == "/cg" && group.home == "/cg/own")
    #expect(try plan("", facts).parent == "/cg/own", "a machine without limits is made where it always was")
  }

  @Test func devicesAreRefusedRatherThanPassedOver() throws {
    let error = #expect(throws: PlanError.self) { try plan("[Resources]\nDeviceAllow=/dev/fuse\n") { _ in } }
    #expect(error?.reason.contains("DeviceAllow=") == true)
    let (spec, _) = Spec.parse(files: [Spec.File(name: "t", bytes: Array("[Resources]\nDeviceAllow=/dev/fuse r".utf8))])
    var host = HostCapacity()
    host.keepsDevices = true
    let limits = try spec.resources.limits(on: host)
    #expect(limits.map(\.property.value) == [.devices([try DeviceRule("/dev/fuse r")])] && writes(limits).isEmpty)
    #expect(limits.first?.reset.property.value == .devices([]))
    #expect(Limit.all.contains { $0.key == "DeviceAllow" })
  }

  @Test func eachDeviceHasOneRule() throws {
    func rules(_ asked: String...) throws -> [String] {
      LimitProperty.deviceRules(try asked.map { try DeviceRule($0) }).map { "\($0.node) \($0.access)" }
    }
    #expect(try rules("/dev/loop0 r") == ["/dev/loop0 r", "/dev/net/tun rwm", "/dev/fuse m", "/dev/kmsg r"])
    #expect(
      try rules("/dev/fuse r", "/dev/fuse w", "char-pts") == [
        "/dev/fuse rwm", "char-pts rwm", "/dev/net/tun rwm", "/dev/kmsg r",
      ])
    #expect(try rules() == ["char-* rwm", "block-* rwm"])
  }
}
