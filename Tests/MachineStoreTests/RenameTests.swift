import Glibc
import Linux
import MachineSpec
import MachineStore
import Testing

/// A store of its own, with a machine in place and its spec.
private func withMachine(_ body: (MachineStore, String) throws -> Void) throws {
  var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
  try check(mkdtemp(&template) == nil ? -1 : 0, "make", "a folder")
  let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer {
    _ = try? ProcessRequest(.path("/bin/rm"), arguments: ["rm", "-rf", "--", path]).start().process.reap(wait: true)
  }
  for folder in ["a", "b"] { mkdir("\(path)/\(folder)", 0o755) }
  let store = MachineStore(
    Places(configuration: "\(path)/etc", state: "\(path)/state", runtime: "\(path)/run"))
  _ = try store.create(
    try MachineName("old"), from: .inPlace("\(path)/a"), spec: Spec(), specText: "[Machine]\nHostname=x\n")
  mkdir("\(path)/etc/old.machine.d", 0o755)
  try Descriptor.open("\(path)/etc/old.machine.d", .directory).replaceFile(
    "x.conf", with: Array("[Machine]\nParameters=quiet\n".utf8))
  try body(store, path)
}

@Suite(.enabled(if: geteuid() == 0, "needs root: it gives files to ids of others")) struct RenameTests {
  private func expectRenamed(_ store: MachineStore, _ path: String, base: UInt32) throws {
    let new = try MachineName("new")
    #expect(try store.names() == [new])
    #expect(try store.record(of: new).range.base == base)
    #expect(try Descriptor.open("\(path)/state/machines", .directory).names() == ["new"])
    let ranges = try Descriptor.open("\(path)/state/uid-ranges", .directory).names().sorted()
    #expect(ranges == [".lock", "\(base)"])
    #expect(try Descriptor.open("\(path)/state/uid-ranges", .directory).linkTarget("\(base)") == "new")
    let specs = try Descriptor.open("\(path)/etc", .directory).names().sorted()
    #expect(specs == ["new.machine", "new.machine.d"])
    let spec = try store.spec(of: new).0
    #expect(spec.machine.hostname?.description == "x" && spec.machine.parameters == ["quiet"])
    #expect(try store.lock(new) != nil)
  }

  @Test func everythingOfTheMachineGetsTheName() throws {
    try withMachine { store, path in
      let before = try store.record(of: try MachineName("old"))
      try store.rename(try MachineName("old"), to: try MachineName("new"))
      try expectRenamed(store, path, base: before.range.base)
      var after = try store.record(of: try MachineName("new"))
      after.name = before.name
      #expect(after == before)
      // Its ids are still its own.
      let other = try store.create(
        try MachineName("old"), from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
      #expect(!other.range.overlaps(before.range))
    }
  }

  @Test func aNameThatIsTakenIsRefusedAndNothingChanges() throws {
    try withMachine { store, path in
      let (old, new) = (try MachineName("old"), try MachineName("new"))
      func expectUnchanged() throws {
        #expect(try store.record(of: old).name == old)
        #expect(try Descriptor.open("\(path)/state/machines", .directory).names().allSatisfy { !$0.hasPrefix(".") })
        #expect(try store.spec(of: old).0.machine.hostname?.description == "x")
      }
      #expect(throws: Failure.self) { try store.rename(old, to: old) }
      #expect(throws: Failure.self) { try store.rename(new, to: try MachineName("other")) }
      let lock = try #require(try store.lock(old))
      #expect(throws: Failure.self) { try store.rename(old, to: new) }
      withExtendedLifetime(lock) {}
      try expectUnchanged()
    }
    try withMachine { store, path in
      let (old, new) = (try MachineName("old"), try MachineName("new"))
      try Descriptor.open("\(path)/etc", .directory).replaceFile("new.machine", with: [])
      #expect(throws: Failure.self) { try store.rename(old, to: new) }
      unlink("\(path)/etc/new.machine")
      _ = try store.create(new, from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
      #expect(throws: Failure.self) { try store.rename(old, to: new) }
      #expect(try store.names() == [new, old])
      #expect(try store.record(of: old).name == old && store.record(of: new).name == new)
    }
  }

  /// What a rename that was killed leaves, step by step, and what the next command makes of it.
  @Test(arguments: 0...6)
  func aRenameThatWasCutOffConverges(_ steps: Int) throws {
    try withMachine { store, path in
      let old = try MachineName("old")
      let record = try store.record(of: old)
      let machines = "\(path)/state/machines"
      let moves: [() throws -> Void] = [
        { try check(symlink("new", "\(machines)/.old.renaming"), "link") },
        { try check(rename("\(machines)/old", "\(machines)/new"), "rename") },
        {
          var renamed = record
          renamed.name = try MachineName("new")
          try store.update(renamed)
        },
        { try check(rename("\(path)/etc/old.machine", "\(path)/etc/new.machine"), "rename") },
        { try check(rename("\(path)/etc/old.machine.d", "\(path)/etc/new.machine.d"), "rename") },
        {
          let link = "\(path)/state/uid-ranges/\(record.range.base)"
          try check(unlink(link), "unlink")
          try check(symlink("new", link), "link")
        },
      ]
      for move in moves.prefix(steps) { try move() }
      if steps >= 1 {
        // Nobody gets the ids meanwhile, nor the old name.
        if steps >= 2 {
          #expect(throws: Failure.self) {
            try store.create(old, from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
          }
        }
        let other = try store.create(
          try MachineName("other"), from: .inPlace("\(path)/b"), spec: Spec(), specText: nil)
        #expect(!other.range.overlaps(record.range))
        try store.remove(try MachineName("other"))
      }
      store.finishRenames()
      if steps < 2 {
        #expect(try store.names() == [old])
        #expect(try store.record(of: old) == record)
        #expect(try Descriptor.open(machines, .directory).names() == ["old"])
        #expect(try store.spec(of: old).0.machine.hostname?.description == "x")
      } else {
        try expectRenamed(store, path, base: record.range.base)
      }
    }
  }
}
