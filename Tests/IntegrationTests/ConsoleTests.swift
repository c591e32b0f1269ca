import Glibc
import Linux
import Testing

@Suite("Console", .serialized)
struct ConsoleTests {
  private func boot(_ sandbox: Sandbox, _ image: String = "trixie") throws -> (String, Guest) {
    try sandbox.image(image)
    let machine = sandbox.name("c")
    // A line for each unit, to have a console with something on it.
    try sandbox.succeed("create", "-s", "Parameters=systemd.show_status=yes", image, machine)
    try sandbox.succeed("start", machine)
    return (machine, try sandbox.guest(machine))
  }

  private func print(_ text: String, _ guest: Guest) throws {
    guard try guest.shell("echo '\(text)' >/dev/console").succeeded else { throw Complaint("no console") }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, arguments: ["bullseye", "bookworm", "trixie", "forky"])
  func everybodyWhoIsAttachedSeesAll(_ image: String) throws {
    try withSandbox("readers") { sandbox in
      let (machine, guest) = try boot(sandbox, image)
      try print("before anybody came", guest)
      let readers = [try sandbox.live("console", machine), try sandbox.live("console", "--read-only", machine)]
      for reader in readers { try reader.waitFor("before anybody came") }
      // A getty that starts anew hangs the terminal up, which must not be the end of it.
      _ = try guest.run("systemctl", "restart", "console-getty.service")
      try print("a later line", guest)
      for reader in readers {
        try reader.waitFor("a later line")
        // Not a later one: with the first getty the kernel throws away what was not yet taken out of the terminal.
        #expect(reader.text.contains("Basic System"), "\(image)")
      }
      // They stay while the machine reboots, whoever asked for it.
      try sandbox.succeed("reboot", machine)
      let next = try sandbox.guest(machine)
      try print("after the reboot", next)
      for reader in readers {
        try reader.waitFor("after the reboot")
        try reader.waitFor("Basic System", times: 2)
      }
      try sandbox.succeed("poweroff", machine)
      for reader in readers { #expect(try reader.wait() == 0) }
      // What was said is there when the machine is not.
      let history = try sandbox.succeed("console", "--history", machine)
      for text in ["before anybody came", "a later line", "after the reboot"] { #expect(history.contains(text)) }
      expectRefusal(try sandbox.hengectl("console", machine), code: 1, "not running", "--history")
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aTerminalBecomesTheMachines() throws {
    try withSandbox("typing") { sandbox in
      let (machine, guest) = try boot(sandbox)
      try guest.succeed("systemctl", "stop", "console-getty.service")
      try guest.succeed("sh", "-c", "stty -F /dev/console sane; head -n 1 /dev/console >/run/typed 2>&1 &")
      try print("from \u{1b}[32mbefore\u{1b}[0m", guest)
      // What the machine has printed is on its way to who keeps it.
      let log = "\(sandbox.state)/machines/\(machine)/console.log"
      try until("it is in the log") { read(log)?.contains("before") ?? false }
      let seat = try sandbox.live("console", machine, onTerminal: true)
      let terminal = try #require(seat.terminal)
      var (before, during, after) = (termios(), termios(), termios())
      tcgetattr(terminal.raw, &before)
      try seat.waitFor("from before")
      try seat.waitFor("leaves it")
      try until("it is raw") {
        tcgetattr(terminal.raw, &during) == 0 && during.c_lflag & UInt32(ICANON | ISIG | ECHO) == 0
      }
      // Live it is as it is.
      try print("in \u{1b}[32mgreen\u{1b}[0m", guest)
      try seat.waitFor("in \u{1b}[32mgreen")

      let size = ProcessRequest(
        .path("/usr/bin/stty"), arguments: ["stty", "rows", "33", "columns", "99"], descriptors: [terminal])
      _ = try size.start().process.reap(wait: true)
      kill(seat.id, SIGWINCH)
      try seat.type("hello there\r")
      var typed = ""
      try until("it is read") {
        typed = try guest.shell("cat /run/typed").text
        return !typed.isEmpty
      }
      #expect(typed == "hello there")
      #expect(try guest.shell("stty -F /dev/console size").text == "33 99")

      try seat.type("\u{1d}\u{1d}")
      pause(milliseconds: 1200)
      try seat.type("\u{1d}\u{1d}")
      try print("still there", guest)
      try seat.waitFor("still there")
      // Not one more: that word may have taken longer than a second.
      try seat.type("\u{1d}\u{1d}\u{1d}")
      #expect(try seat.wait() == 0)
      tcgetattr(terminal.raw, &after)
      #expect(after.c_lflag == before.c_lflag && after.c_iflag == before.c_iflag && after.c_oflag == before.c_oflag)
      // Whoever is told to end puts the terminal right first.
      let second = try sandbox.live("console", machine, onTerminal: true)
      let other = try #require(second.terminal)
      try second.waitFor("leaves it")
      try print("for the second", guest)
      try second.waitFor("for the second")
      second.process.descriptor.raw >= 0 ? _ = kill(second.id, SIGTERM) : ()
      _ = try second.wait()
      tcgetattr(other.raw, &after)
      #expect(after.c_lflag & UInt32(ICANON | ECHO) == UInt32(ICANON | ECHO))
      try sandbox.succeed("terminate", machine)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func whoOnlyLooksIsSafeFromWhatIsShown() throws {
    try withSandbox("looking") { sandbox in
      let (machine, guest) = try boot(sandbox)
      _ = try guest.shell(#"printf '\033[31mred\033]0;owned\007\033[6n \342\200\256 end\n' >/dev/console"#)
      let looking = try sandbox.live("console", "--read-only", machine, onTerminal: true)
      try looking.waitFor("end")
      let history = try sandbox.live("console", "--history", machine, onTerminal: true)
      #expect(try history.wait() == 0)
      #expect(history.text.contains("end"))
      // A terminal that is lent out is not shown questions of the past, which it would answer.
      let sitting = try sandbox.live("console", machine, onTerminal: true)
      try sitting.waitFor("end")
      for shown in [looking.text, history.text, String(sitting.text.drop { $0 != "D" })] {
        for scalar in shown.unicodeScalars where ![9, 10, 13].contains(scalar.value) {
          let isControl =
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || (0x202a...0x202e).contains(scalar.value)
          #expect(!isControl, "\(scalar.value)")
        }
      }
      try sandbox.succeed("terminate", machine)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aSlowReaderHoldsNobodyUpAndTheLogIsBounded() throws {
    try withSandbox("slow") { sandbox in
      let (machine, guest) = try boot(sandbox)
      // This one is never read from.
      let slow = try sandbox.live("console", machine)
      try slow.waitFor("Basic System")
      let quick = try sandbox.live("console", machine)
      try quick.waitFor("Basic System")
      let flood = try guest.shell("yes 'a line of text that is printed again and again' | head -c 8M >/dev/console")
      #expect(flood.succeeded && flood.seconds < 30, "\(flood)")
      // Nobody read from this one either until now: it is told what it missed, and is up to date from there on.
      try quick.waitFor("bytes were lost here", deadline: 30)
      try print("the end of it", guest)
      try quick.waitFor("the end of it", deadline: 30)
      #expect(try sandbox.succeed("status", machine, deadline: 10).contains("running"))
      let folder = "\(sandbox.state)/machines/\(machine)"
      for name in ["console.log", "console.log.1"] {
        var status = stat()
        #expect(
          lstat("\(folder)/\(name)", &status) == 0 && status.st_size <= 1 << 20 && status.st_mode & 0o777 == 0o600)
      }
      #expect(names(in: folder).filter { $0.hasPrefix("console") }.count == 2)
      let supervisor = try sandbox.guest(machine).state["supervisor"]?.intValue.flatMap { Int32(exactly: $0) }
      let resident = supervisor.flatMap { Host.status($0, "VmRSS") }?.split(separator: " ").first.flatMap { Int($0) }
      #expect((resident ?? .max) < 64 << 10)
      // What was typed and is read by nobody holds nobody up either.
      try guest.succeed("systemctl", "stop", "console-getty.service")
      let typing = try sandbox.live("console", machine, readsStream: true)
      try typing.type(String(repeating: "typed for nobody\n", count: 4000))
      #expect(try sandbox.succeed("status", machine, deadline: 10).contains("running"))
      try print("one more line", guest)
      try quick.waitFor("one more line")
      try sandbox.succeed("poweroff", machine)
      #expect(try quick.wait() == 0)
      _ = slow.id
    }
  }
}
