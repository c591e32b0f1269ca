import Glibc
import Testing

@Suite("The harness itself")
struct HarnessTests {
  @Test func tellsHowAProgramEnded() throws {
    let outcome = try run(["sh", "-c", "echo out; echo bad >&2; exit 3"])
    #expect(outcome.code == 3)
    #expect(outcome.text == "out")
    #expect(outcome.errorLines == ["bad"])
    #expect(try run(["sh", "-c", "kill -9 $$"]).code == 128 + SIGKILL)
  }

  @Test func killsAProgramAtItsDeadline() throws {
    let outcome = try run(["sh", "-c", "sleep 60; true"], deadline: 0.2)
    #expect(outcome.isTimedOut)
    #expect(outcome.seconds < 30)
  }

  @Test(.needsRoot, .needsPrograms, .needsImages) func bootsAMachine() throws {
    try withSandbox("harness") { sandbox in
      try sandbox.image("trixie")
      let name = sandbox.name("a")
      try sandbox.succeed("create", "trixie", name)
      #expect(try sandbox.succeed("start", name) == "\(name) is running")
      #expect(try sandbox.guest(name).succeed("systemctl", "is-system-running") == "running")
      try sandbox.succeed("poweroff", name)
      try sandbox.succeed("remove", name)
    }
  }
}
