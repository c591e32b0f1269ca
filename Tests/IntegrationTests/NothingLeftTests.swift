import Glibc
import Linux
import Testing

@Suite("Nothing left", .serialized)
struct NothingLeftTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aWholeLifeLeavesTheHostAsItWas() throws {
    let whole = Snapshot(.shared)
    try withSandbox("life") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("life")
      // What a first start makes once for all machines is no leak: the folder that they are in.
      try sandbox.succeed("create", "trixie", name)
      try sandbox.succeed("start", name)
      try sandbox.succeed("poweroff", name)
      let before = sandbox.snapshot()
      #expect(before.groups.isEmpty && before.processes.isEmpty && before.mounts.isEmpty)
      for verb in ["poweroff", "terminate"] {
        try sandbox.succeed("start", name)
        // It must be able to see what there is, or its silence says nothing.
        let during = sandbox.snapshot()
        #expect(during.groups.contains { $0.contains("henge-\(name)-") && $0.hasSuffix("/payload") })
        #expect(during.processes.contains { $0.contains("henge-superviso") })
        #expect(during.files.contains("\(sandbox.runtime)/machines/\(name)/control"))
        let guest = try sandbox.guest(name)
        try sandbox.succeed(verb, name)
        #expect(sandbox.difference(from: before) == [])
        #expect(Host.processes(ofUIDs: guest.uids) == [])
      }
      try sandbox.succeed("remove", name)
      #expect(sandbox.difference(from: before) == [])
      let left = names(in: "\(sandbox.state)/machines").filter { !$0.hasPrefix(".") }
      #expect(left == [])
      #expect(names(in: "\(sandbox.state)/uid-ranges").filter { !$0.hasPrefix(".") } == [])
      #expect(names(in: sandbox.configuration) == [])
    }
    let after = settled(whole)
    #expect(after.difference(from: whole) == [])
  }

  /// Other tests run beside this one and may mount something for a moment: waits for the moment to pass.
  private func settled(_ before: Snapshot) -> Snapshot {
    let end = now() + 30_000_000_000
    guard let mounts = try? Descriptor.open("/proc/self/mountinfo") else { return Snapshot(.shared) }
    while true {
      // Reading it is what arms the next notice.
      lseek(mounts.raw, 0, SEEK_SET)
      _ = try? mounts.readAll(limit: 64 << 20, subject: "mountinfo")
      let after = Snapshot(.shared)
      if after == before || now() >= end { return after }
      var poll = pollfd(fd: mounts.raw, events: Int16(POLLPRI), revents: 0)
      Glibc.poll(&poll, 1, 1000)
    }
  }

  /// One thing leaked on purpose, and what takes it back.
  struct Leak: Sendable, CustomTestStringConvertible {
    var kind: String
    var make: @Sendable (Sandbox) throws -> @Sendable () -> Void
    var testDescription: String { kind }
  }

  static let leaks = [
    Leak(kind: "mount") { sandbox in
      let place = "\(sandbox.folder)/leak"
      try check(mkdir(place, 0o700), "make", place)
      try runWell(["mount", "-t", "tmpfs", "none", place])
      return { _ = try? run(["umount", place]) }
    },
    Leak(kind: "cgroup") { sandbox in
      let group = "\(Host.cgroupMount ?? "")/henge-\(sandbox.name("leak"))"
      try check(mkdir(group, 0o755), "make", group)
      return { rmdir(group) }
    },
    Leak(kind: "process") { sandbox in
      let program = try RunningProgram(["sleep", "600"], environment: sandbox.environment)
      return {
        program.signal(SIGKILL)
        _ = try? program.wait()
      }
    },
    Leak(kind: "interface") { sandbox in
      let link = sandbox.name("d")
      try runWell(["ip", "link", "add", link, "type", "bridge"])
      return { _ = try? run(["ip", "link", "delete", link]) }
    },
    Leak(kind: "loop device") { sandbox in
      let file = "\(sandbox.folder)/disk"
      try write(String(repeating: "0", count: 1 << 20), to: file)
      let device = try runWell(["losetup", "--find", "--show", file])
      return { _ = try? run(["losetup", "--detach", device]) }
    },
    Leak(kind: "file") { sandbox in
      let file = "\(sandbox.runtime)/leak"
      try write("", to: file)
      return { unlink(file) }
    },
  ]

  @Test(.needsRoot, arguments: leaks)
  func whatIsLeakedOnPurposeIsFound(_ leak: Leak) throws {
    try withSandbox("leak") { sandbox in
      let before = sandbox.snapshot()
      let undo = try leak.make(sandbox)
      let found = sandbox.snapshot().difference(from: before)
      #expect(found.count == 1 && found.first?.hasPrefix("+ \(leak.kind) ") ?? false, "\(found)")
      undo()
      #expect(sandbox.difference(from: before) == [])
    }
  }

  /// The check around the whole run of the tests, which is a script because it must outlive them.
  @Test(.needsRoot)
  func theCheckOfTheWholeRunFindsALeak() throws {
    try withSandbox("script") { sandbox in
      let group = "\(Host.cgroupMount ?? "")/henge-\(sandbox.name("leak"))"
      let environment = ["HENGE_RUNTIME_DIR=\(sandbox.runtime)"]
      let leaking = "mkdir \(group); touch \(sandbox.runtime)/leak"
      let script = "\(Checkout.root)/Tests/nothing-left"
      let outcome = try run([script, "sh", "-c", leaking], environment: environment)
      rmdir(group)
      #expect(outcome.code == 1)
      #expect(outcome.errorLines.contains("  left: cgroup \(group)"), "\(outcome)")
      #expect(outcome.errorLines.contains("  left: file \(sandbox.runtime)/leak"), "\(outcome)")
      // Others may work on this host meanwhile; what they leave is not ours.
      let silent = try run([script, "sh", "-c", "exit 7"], environment: environment)
      #expect(silent.code == 7 && !silent.errors.contains(sandbox.tag), "\(silent)")
    }
  }
}
