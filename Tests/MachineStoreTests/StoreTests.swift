import Glibc
import Linux
import MachineSpec
import MachineStore
import SystemPackage
import Testing
import Varlink

/// A store of its own, gone with the test. Machines in place need no image.
private func withStore(_ body: (MachineStore, String) throws -> Void) throws {
  var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
  let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer {
    _ = try? ProcessRequest(.path("/bin/rm"), arguments: ["rm", "-rf", "--", path]).start().process.reap(wait: true)
  }
  for name in ["a", "b", "c"] { mkdir("\(path)/\(name)", 0o755) }
  let places = Places(configuration: "\(path)/etc", state: "\(path)/state", runtime: "\(path)/run")
  try body(MachineStore(places), path)
}

private func name(_ text: String) throws -> MachineName { try MachineName(text) }

@Suite(.enabled(if: geteuid() == 0, "needs root: it gives files to ids of others")) struct StoreTests {
  @Test func whatWasMadeIsThereAndWhatWasRemovedIsNot() throws {
    try withStore { store, path in
      let made = try store.create(
        try name("one"), from: .inPlace("\(path)/a"), spec: Spec(), specText: "[Machine]\nHostname=x\n")
      #expect(try store.record(of: try name("one")) == made)
      #expect(try store.names().map(\.description) == ["one"])
      #expect(try store.spec(of: try name("one")).0.machine.hostname?.description == "x")
      try store.remove(try name("one"))
      #expect(try store.names().isEmpty)
      #expect(!store.hasSpec(try name("one")))
      #expect(try Descriptor.open("\(path)/state/machines", .directory).names().isEmpty)
      #expect(try Descriptor.open("\(path)/state/uid-ranges", .directory).names() == [".lock"])
      #expect(access("\(path)/a", F_OK) == 0, "a directory used in place stays")
    }
  }

  @Test func rangesAreDisjointFromEachOtherAndFromTheHosts() throws {
    try withStore { store, path in
      var ranges: [UIDRange] = []
      for (machine, folder) in [("x", "a"), ("y", "b"), ("z", "c")] {
        ranges.append(
          try store.create(try name(machine), from: .inPlace("\(path)/\(folder)"), spec: Spec(), specText: nil).range)
      }
      for (index, range) in ranges.enumerated() {
        #expect(range.base >= 0x80000 && range.base % 65536 == 0)
        #expect(ranges[(index + 1)...].allSatisfy { !$0.overlaps(range) })
      }
    }
  }

  @Test func aNameIsGivenOnceAndADirectoryToOneMachine() throws {
    try withStore { store, path in
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      #expect(throws: Failure.self) {
        try store.create(try name("m"), from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
      }
      #expect(throws: Failure.self) {
        try store.create(try name("n"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      }
      #expect(try store.names().count == 1)
      #expect(try Descriptor.open("\(path)/state/uid-ranges", .directory).names().count == 2)
    }
  }

  @Test func anOperatorsSpecIsKept() throws {
    try withStore { store, path in
      mkdir("\(path)/etc", 0o755)
      try Descriptor.open("\(path)/etc", .directory).replaceFile("m.machine", with: Array("[Machine]\nBoot=yes\n".utf8))
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: "[Machine]\nBoot=no\n")
      #expect(try store.spec(of: try name("m")).0.machine.boot)
      try store.remove(try name("m"))
      #expect(store.hasSpec(try name("m")))
    }
  }

  @Test func onlyTheHolderOfTheLockRemoves() throws {
    try withStore { store, path in
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      let lock = try #require(try store.lock(try name("m")))
      #expect(try store.lock(try name("m")) == nil)
      let error = #expect(throws: Failure.self) { try store.remove(try name("m")) }
      #expect(error?.description.contains("another command") == true, "nothing of it runs, so that is not what is said")
      withExtendedLifetime(lock) {}
    }
  }

  @Test func whatAKilledCommandLeftIsSweptAway() throws {
    try withStore { store, path in
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      for leftover in [".dead.new", ".dead.gone"] { mkdir("\(path)/state/machines/\(leftover)", 0o700) }
      symlink("dead", "\(path)/state/uid-ranges/524288")
      _ = try store.create(try name("n"), from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
      #expect(try Descriptor.open("\(path)/state/machines", .directory).names().sorted() == ["m", "n"])
      #expect(try Descriptor.open("\(path)/state/uid-ranges", .directory).names().count == 3)
    }
  }

  @Test func aDamagedRecordIsNamedAndDoesNotStandInTheWay() throws {
    try withStore { store, path in
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      let folder = try Descriptor.open(store.folder(of: try name("m")), .directory)
      for text in ["", "{", "[]", "{\"name\":\"other\"}", "{\"name\":\"m\",\"uidBase\":-1}"] {
        try folder.replaceFile("machine.json", with: Array(text.utf8))
        let error = #expect(throws: Failure.self) { try store.record(of: try name("m")) }
        #expect(error?.description.contains("machine.json is damaged") == true)
      }
      try store.remove(try name("m"))
      #expect(try store.names().isEmpty)
    }
  }

  @Test func stateOfAnotherBootIsVoid() throws {
    try withStore { store, path in
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      var state = MachineState(bootID: "another", supervisor: 1, started: 0)
      // A folder of the host's that recovery would try to empty, had it believed the state.
      state.cgroup = "\(path)/b"
      try store.makeRuntimeFolder(of: try name("m")).replaceFile("state.json", with: Array(state.json.compact.utf8))
      #expect(try !store.isRunning(try name("m")))
      #expect(access("\(path)/b", F_OK) == 0)
      #expect(access(store.runtimeFolder(of: try name("m")), F_OK) != 0)
    }
  }
}

/// What a killed supervisor leaves must go, and nothing that a damaged state names besides.
@Suite(.enabled(if: geteuid() == 0 && cgroupMount() != nil, "needs root and control groups of version 2"))
struct RecoveryTests {
  @Test(arguments: [
    ("henge-m-0123abcd", true), ("henge-m-0123abcd.scope", true), ("henge@m.service", true), ("henge-m", false),
    ("henge-mm-0123abcd", false), ("henge-m-0123abcd.service", false), ("henge@mm.service", false), ("other", false),
  ])
  func onlyTheMachinesOwnGroupIsRemoved(group: String, goes: Bool) throws {
    try withStore { store, path in
      let mount = try #require(cgroupMount())
      // In a group of the test's own: names like these may be somebody's.
      let folder = "\(mount)/henge-test-\(getpid())"
      mkdir(folder, 0o755)
      mkdir("\(folder)/\(group)", 0o755)
      defer {
        rmdir("\(folder)/\(group)")
        rmdir(folder)
      }
      _ = try store.create(try name("m"), from: .inPlace("\(path)/a"), spec: Spec(), specText: nil)
      var state = MachineState(bootID: try currentBootID(), supervisor: 1, started: 0)
      state.cgroup = "\(folder)/\(group)"
      try store.makeRuntimeFolder(of: try name("m")).replaceFile("state.json", with: Array(state.json.compact.utf8))
      #expect(try !store.isRunning(try name("m")))
      #expect((access("\(folder)/\(group)", F_OK) != 0) == goes)
    }
  }
}

private func cgroupMount() -> String? {
  ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].first { access("\($0)/cgroup.procs", F_OK) == 0 }
}

@Suite struct RecordTests {
  @Test func aRecordSurvivesItsJSON() throws {
    for root in [
      MachineRecord.Root.layers(image: "i", folders: ["layer-0", "layer-1"]), .copy(image: "i"), .inPlace("/srv/x"),
    ] {
      var record = MachineRecord(
        name: try name("m"), uuid: try MachineUUID("0123456789abcdef0123456789abcdef"), range: UIDRange(base: 65536),
        root: root, created: 7)
      record.shift = .begun
      record.isEphemeral = true
      record.ownsSpec = true
      #expect(MachineRecord(json: try JSON(parsing: record.json.pretty)) == record)
    }
  }
}

@Suite struct UndoTests {
  @Test func theLastStepIsTakenBackFirstAndOnce() {
    let undo = UndoStack()
    var order: [Int] = []
    for step in 1...3 { undo.push { order.append(step) } }
    undo.run()
    undo.run()
    #expect(order == [3, 2, 1])
  }
}
