import MachinePlan
import MachineSpec
import StageProtocol
import Testing

/// A host that has everything but systemd, and a machine made from an image.
private func host() -> HostFacts {
  var host = HostFacts()
  host.architecture = 62
  host.cgroup.layout = .hybrid
  host.cgroup.own = "/cg"
  host.cgroup.delegatedFiles = ["cgroup.procs"]
  host.network.forwarders = [
    InstalledForwarder(kind: .slirp4netns, path: "/usr/bin/slirp4netns"),
    InstalledForwarder(kind: .pasta, path: "/usr/bin/pasta"),
  ]
  host.osRelease = Array("ID=debian\nVERSION_ID=\"12\"\n".utf8)
  return host
}

private func machine(_ root: MachineRoot? = nil) throws -> MachineFacts {
  MachineFacts(
    name: try MachineName("web"), uuid: try MachineUUID("0123456789abcdef0123456789abcdef"), rootID: 524288,
    idCount: 65536, mountPoint: "/run/m",
    root: root ?? .layers(["/top", "/base"], upper: "/up", work: "/wk"))
}

private func plan(_ text: String, host facts: HostFacts = host(), machine: MachineFacts? = nil) throws -> MachinePlan {
  let (spec, diagnostics) = Spec.parse(files: [Spec.File(name: "t", bytes: Array(text.utf8))])
  #expect(diagnostics.isEmpty)
  return try MachinePlan(spec: spec, host: facts, machine: try machine ?? PlannerTests.standard())
}

@Suite struct PlannerTests {
  struct Missing: Error {}
  static func standard() throws -> MachineFacts { try machine() }

  @Test func theSamePlanForTheSameFacts() throws {
    #expect(try plan("") == plan(""))
  }

  /// Who keeps the host's control groups decides what the machine's is called, and nothing else about it.
  @Test func theKeeperOfTheControlGroupsNamesTheMachines() throws {
    var facts = host()
    func name(_ keeper: CgroupKeeper) throws -> String {
      facts.cgroup.keeper = keeper
      let group = try #require(try plan("", host: facts).group)
      #expect(group.keeper == keeper && group.delegate == 524288)
      return group.name
    }
    #expect(try name(.nobody) == "henge-web-01234567")
    #expect(try name(.scope) == "henge-web-01234567.scope")
    #expect(try name(.service("henge@web.service")) == "henge@web.service")
  }

  /// What the machine must not undo has to be mounted before its own mount namespace is made of copies, and what shows
  /// its namespaces after.
  @Test func theOrderThatTheKernelNeeds() throws {
    let operations = try plan("[Files]\nBind=/srv\nUnlayered=/var/lib/docker\n[Exec]\nSetCredential=a:b\n").stage
      .operations
    let boundary = try #require(operations.firstIndex(of: .enterNamespaces()))
    for (index, operation) in operations.enumerated() {
      switch operation {
      case .isolateMounts, .root, .checkInit, .memory, .bind, .device, .notifySocket, .sealMount, .unlayered:
        #expect(index < boundary, "\(operation)")
      case .mount, .console, .mask, .pivot, .confine, .adoptRoot:
        #expect(index > boundary, "\(operation)")
      default: break
      }
    }
    #expect(operations.first == .isolateMounts)
    let pivot = try #require(operations.firstIndex(of: .pivot))
    #expect(operations[(pivot + 1)...].count == 1, "nothing but dropping capabilities comes after the pivot")
    let seal = try #require(operations.lastIndex(of: .sealMount("/run/host")))
    #expect(operations[seal...].allSatisfy { if case .notifySocket = $0 { false } else { true } })
  }

  /// As in a container: the kernel wants a proc and a sysfs without covers in sight, and on a host there are.
  @Test func coveredFileSystemsOfTheKernelsAreShown() throws {
    var facts = host()
    #expect(try !plan("", host: facts).stage.operations.contains(.showKernel))
    facts.coversKernel = true
    let operations = try plan("", host: facts).stage.operations
    let shown = try #require(operations.firstIndex(of: .showKernel))
    #expect(operations[shown + 1] == .enterNamespaces())
  }

  @Test func readOnlyControlGroupsAreNamed() throws {
    var facts = host()
    (facts.cgroup.isOurs, facts.cgroup.isReadOnly) = (false, true)
    #expect(throws: PlanError.self) { try plan("", host: facts) }
  }

  @Test func layersAreMappedTopFirstUnderAPlainUpper() throws {
    let root = try plan("").stage.operations[1]
    #expect(
      root
        == .root(
          .overlay(
            layers: [RootLayer(path: "/top", mapped: true), RootLayer(path: "/base", mapped: true)],
            upper: .directory(upper: "/up", work: "/wk")), readOnly: false))
  }

  @Test(arguments: [
    ("map", TreeOwnership.unshifted, true, nil as [UInt32]?), ("map", .shifted, true, [524288, 0]),
    ("map", .between, true, [524288, 0]), ("chown", .unshifted, false, [0, 524288]),
    ("chown", .between, false, [0, 524288]), ("chown", .shifted, false, nil), ("auto", .unshifted, true, nil),
    ("auto", .shifted, false, nil), ("auto", .between, false, [0, 524288]),
  ])
  func ownership(word: String, now: TreeOwnership, mapped: Bool, shift: [UInt32]?) throws {
    let facts = try machine(.tree("/t", ownership: now))
    let made = try plan("[Files]\nPrivateUsersOwnership=\(word)\n", machine: facts)
    #expect(made.stage.operations[1] == .root(.directory("/t", mapped: mapped), readOnly: false))
    let shifts = made.hostSteps.compactMap { step -> [UInt32]? in
      if case .shiftOwnership("/t", let from, let to, 65536) = step { [from, to] } else { nil }
    }
    #expect(shifts == (shift.map { [$0] } ?? []))
  }

  @Test func autoGivesTheFilesAwayWhereTheFileSystemCannotMap() throws {
    var facts = host()
    facts.canMapIDs = false
    let tree = try machine(.tree("/t", ownership: .unshifted))
    #expect(
      try plan("", host: facts, machine: tree).stage.operations[1]
        == .root(.directory("/t", mapped: false), readOnly: false))
    #expect(throws: PlanError.self) { try plan("[Files]\nPrivateUsersOwnership=map\n", host: facts, machine: tree) }
  }

  @Test func foldersOutOfTheLayersComeFromTheUpper() throws {
    let text = "[Files]\nUnlayered=/var/lib/docker\n"
    #expect(try plan(text).stage.operations.contains(.unlayered("/var/lib/docker", upper: "/up")))
    let memory = SetupOperation.memory(
      "/var/lib/docker", kind: .tmpfs, mode: 0o755, options: ["size=50%"], attributes: [.noSetID, .noDevices])
    #expect(try plan(text + "Volatile=overlay\n").stage.operations.contains(memory))
    // A root that is no overlay is as good as it is.
    let tree = try machine(.tree("/t", ownership: .unshifted))
    #expect(try plan(text, machine: tree).stage.operations == plan("", machine: tree).stage.operations)
  }

  @Test func devicesThatOneMayHave() throws {
    let tun = SetupOperation.device("/dev/net/tun", major: 10, minor: 200)
    let fuse = SetupOperation.device("/dev/fuse", major: 10, minor: 229)
    let plain = try plan("").stage.operations
    #expect(plain.contains(tun) && !plain.contains(fuse))
    #expect(try plan("[Files]\nBind=/dev/net/tun\n").stage.operations == plain)
    #expect(try plan("[Files]\nBind=/dev/fuse\n").stage.operations.contains(fuse))
    // Any other name is a bind like others, and its device nodes are dead.
    #expect(try !plan("[Files]\nBind=/dev/fuse:/dev/x\nBind=/dev/kvm\n").stage.operations.contains(fuse))
    var facts = host()
    facts.network.hasTun = false
    #expect(try !plan("[Network]\nMode=none\n", host: facts).stage.operations.contains(tun))
  }

  @Test func volatileRoots() throws {
    let layers = [
      RootLayer(path: "/up", mapped: false), RootLayer(path: "/top", mapped: true),
      RootLayer(path: "/base", mapped: true),
    ]
    #expect(
      try plan("[Files]\nVolatile=overlay\n").stage.operations[1]
        == .root(.overlay(layers: layers, upper: .memory), readOnly: false))
    #expect(try plan("[Files]\nVolatile=yes\n").stage.operations[1] == .root(.memory(usr: layers), readOnly: false))
    guard case .root(_, readOnly: true) = try plan("[Files]\nVolatile=state\n").stage.operations[1] else {
      Issue.record("the root of Volatile=state is writable")
      return
    }
  }

  @Test func capabilities() throws {
    #expect(try plan("").stage.operations.last == .confine(dropped: [16, 17, 30, 37]))
    let text = "[Exec]\nCapability=CAP_SYS_MODULE\nDropCapability=CAP_NET_RAW\n"
    #expect(try plan(text).stage.operations.last == .confine(dropped: [13, 17, 30, 37]))
  }

  @Test func theEnvironmentOfProcessOne() throws {
    let environment = try plan("[Machine]\nEnvironment=A=b\n[Exec]\nSetCredential=x:y\n").stage.environment
    for line in [
      "container=henge", "container_uuid=01234567-89ab-cdef-0123-456789abcdef", "NOTIFY_SOCKET=/run/host/notify",
      "CREDENTIALS_DIRECTORY=/run/host/credentials", "container_host_id=debian", "container_host_version_id=12", "A=b",
    ] { #expect(environment.contains(line), "\(line)") }
    #expect(try !plan("").stage.environment.contains { $0.hasPrefix("CREDENTIALS_DIRECTORY") })
  }

  @Test func aLoadedCredentialWinsOverAWrittenOne() throws {
    var facts = try machine()
    facts.loadedCredentials = [("x", [9])]
    let files = try plan("[Exec]\nSetCredential=x:y\n", machine: facts).stage.operations.compactMap {
      operation -> [UInt8]? in
      if case .file("/run/host/credentials/x", 0o400, let contents) = operation { contents } else { nil }
    }
    #expect(files.last == [9])
  }

  @Test func limitsWithoutTheirControllerAreRefusedByName() throws {
    let error = #expect(throws: PlanError.self) { try plan("[Resources]\nMemoryMax=1G\n") }
    #expect(error?.reason.contains("MemoryMax=") == true && error?.reason.contains("memory controller") == true)
    #expect(error?.isHostsFault == true)
  }

  @Test func theCgroupsNameIsOfThisMachineAlone() throws {
    let names = try plan("").hostSteps.compactMap { step -> String? in
      if case .cgroup(let group) = step { group.name } else { nil }
    }
    #expect(names == ["henge-web-01234567"])
  }

  @Test func journals() throws {
    var facts = host()
    #expect(throws: PlanError.self) { try plan("[Exec]\nLinkJournal=host\n", host: facts) }
    facts.keepsJournal = true
    var known = try machine()
    known.machineID = "abc"
    let made = try plan("[Exec]\nLinkJournal=host\n", host: facts, machine: known)
    #expect(made.hostSteps.contains(.journalFolder(path: "/var/log/journal/abc", owner: 524288)))
    let binds = made.stage.operations.compactMap { if case .bind(let bind) = $0 { bind } else { nil } }
    #expect(binds.map(\.path) == ["/var/log/journal/abc"])
    #expect(binds.allSatisfy { !$0.mapped }, "what the machine writes must not belong to the host's root")
  }
}
