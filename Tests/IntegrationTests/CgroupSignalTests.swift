import Glibc
import Linux
import Testing

/// Signals to all that is in a control group, and to nobody else.
@Suite("Signals to a control group", .serialized)
struct CgroupSignalTests {
  private func sleeper() throws -> RunningProgram { try RunningProgram(["sleep", "1000"]) }

  @Test(.needsRoot)
  func whoIsNotInTheGroupAnyMoreGetsNone() throws {
    let path = "\(try #require(Host.cgroupMount))/henge-test-\(getpid())-signals"
    let groups = [path, "\(path)/below", "\(path)/domain", "\(path)/domain/threaded"]
    for group in groups { try check(mkdir(group, 0o755), "make", group) }
    try write("threaded", to: "\(path)/domain/threaded/cgroup.type")
    let programs = try (0..<5).map { _ in try sleeper() }
    defer {
      for program in programs {
        program.signal(SIGKILL)
        _ = try? program.wait(deadline: 10)
      }
      for group in groups.reversed() { rmdir(group) }
    }
    for (program, place) in zip(programs, ["", "", "", "/below", "/domain"]) {
      try write("\(program.id)", to: "\(path)\(place)/cgroup.procs")
    }
    // A group that cannot be read hides nobody.
    try write("\(programs[4].id)", to: "\(path)/domain/threaded/cgroup.threads")
    let group = try CgroupDirectory(opening: path)
    // One leaves, as its number would by passing to somebody else; one is not wanted.
    let count = try group.signal(SIGTERM, where: { $0 != programs[1].id }) {
      _ = try? write("\(programs[0].id)", to: "\(path)/../cgroup.procs")
    }
    #expect(count == 3)
    for program in programs[2...] { #expect(try program.wait(deadline: 10).code == 128 + SIGTERM) }
    #expect(programs[0].isRunning && programs[1].isRunning)
  }

  /// Who is born in a frozen group does not come to its program, and holds up nobody who waits for that.
  @Test(.needsRoot)
  func nobodyWaitsForWhoIsBornFrozen() throws {
    let path = "\(try #require(Host.cgroupMount))/henge-test-\(getpid())-frozen"
    try check(mkdir(path, 0o755), "make", path)
    defer { rmdir(path) }
    try write("1", to: "\(path)/cgroup.freeze")
    var request = ProcessRequest(.path("/bin/true"), arguments: ["true"])
    request.cgroup = try CgroupDirectory(opening: path).descriptor
    let began = now()
    let failure = #expect(throws: Failure.self) { _ = try request.start() }
    #expect(failure?.errno == .timedOut && now() - began < 25_000_000_000, "\(String(describing: failure))")
    #expect(read("\(path)/cgroup.procs") == "")
    try write("0", to: "\(path)/cgroup.freeze")
    #expect(try request.start().process.reap(wait: true) == .exited(0))
  }
}
