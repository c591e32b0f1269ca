import Glibc
import Linux
import Testing

/// Sessions inside machines, with every guest.
@Suite("shell and login", .serialized)
struct ShellTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func sessionsAreTheMachinesOwn() throws {
    var matrix = Matrix(ExecTests.guests)
    defer { matrix.show("shell, login") }
    for guest in ExecTests.guests {
      try withSandbox("shell") { sandbox in
        try sandbox.image(guest)
        let machine = sandbox.name(guest)
        try sandbox.succeed("create", guest, machine)
        try sandbox.succeed("start", machine)
        // By hand: the smallest guests have no useradd.
        try sandbox.succeed(
          "exec", machine, "--", "sh", "-ec",
          """
          echo 'ada:x:4321:4321::/home/ada:/bin/bash' >>/etc/passwd; echo 'ada:x:4321:' >>/etc/group
          echo 'ada:*:19000:0:99999:7:::' >>/etc/shadow; mkdir /home/ada; chown 4321:4321 /home/ada
          # What a shell has forked and not yet executed: the first hang-up is taken by a handler that goes away.
          echo '$SIG{HUP} = sub { $heard = 1 }; until ($heard) { select undef, undef, undef, 0.01 }
          select undef, undef, undef, 0.2; exec "sleep", "4004"' >/home/ada/late.pl
          """)
        try sessions(&matrix, guest, machine, sandbox)
        // What was left just now must not hold it up until a patience of 90 s is over.
        try sandbox.succeed("poweroff", machine, deadline: 60)
      }
    }
  }

  private func sessions(_ matrix: inout Matrix, _ guest: String, _ machine: String, _ sandbox: Sandbox) throws {
    try matrix.check("shell of an ordinary user", guest) {
      let attached = try sandbox.attach("shell", "ada@\(machine)", size: (120, 50))
      try attached.expect("$ ")
      for (line, answer) in [
        ("id -un; pwd", "ada\r\n/home/ada"), ("stty size", "50 120"), ("tty", "/dev/pts/"),
        ("echo $XDG_RUNTIME_DIR", "/run/user/4321"), ("loginctl --no-legend --no-pager list-sessions | cat", " ada "),
        ("systemctl --user is-active basic.target", "active"), ("echo [$0] [$TERM]", "bash] [xterm]"),
      ] {
        attached.send("\(line)\r")
        try attached.expect(answer)
      }
      attached.send("exit 5\r")
      try demand(try attached.finish() == 5, attached.output)
    }
    try matrix.check("shell with a command, in pipes", guest) {
      let command = "cat; id -un; echo $XDG_RUNTIME_DIR; systemctl --user is-active basic.target; exit 3"
      let outcome = try sandbox.shell(
        "echo in | $h shell ada@\(machine) sh -c '\(command)' | cat; $h shell \(machine) id -u")
      try demand(outcome.output == "in\nada\n/run/user/4321\nactive\n0\n", "\(outcome)")
      let code = try sandbox.hengectl("shell", "ada@\(machine)", "--", "sh", "-c", "exit 3")
      try demand(code.code == 3, "\(code)")
    }
    try matrix.check("shell of nobody there", guest) {
      let outcome = try sandbox.hengectl("shell", "nobody-here@\(machine)", "true")
      try demand(outcome.code == 126 && outcome.errors.contains("no user"), "\(outcome)")
    }
    try matrix.check("^]^]^] leaves a shell, and ends it", guest) {
      let attached = try sandbox.attach("shell", "ada@\(machine)")
      try attached.expect("$ ")
      attached.send("sleep 1234\r")
      try attached.expect("1234")
      let inside = try sandbox.guest(machine)
      let sleeps = { try inside.shell("grep -lx sleep /proc/[0-9]*/comm").succeeded }
      // What the terminal echoes is not running yet.
      try until("the command begins", sleeps)
      attached.send("\u{1d}\u{1d}\u{1d}")
      try demand(try attached.finish() == 0, attached.output)
      try until("the shell is gone") { try !sleeps() }
    }
    try matrix.check("^]^]^] ends what begins, and what is to stay stays", guest) {
      let inside = try sandbox.guest(machine)
      let runs = { (text: String) in
        try inside.shell(
          "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null | grep -x '\(text) '"
        )
        .succeeded
      }
      let attached = try sandbox.attach("shell", "ada@\(machine)")
      try attached.expect("$ ")
      attached.send("setsid -f sleep 4001; nohup sleep 4002 >/dev/null 2>&1 & sleep 4003 & disown -a\r")
      let staying = ["sleep 4001", "sleep 4002", "sleep 4003"]
      try until("they run") { try staying.allSatisfy(runs) }
      // Longer ago than the last moment.
      pause(milliseconds: 1200)
      attached.send("perl late.pl\r")
      try until("it begins") { try runs("perl late.pl") }
      attached.send("\u{1d}\u{1d}\u{1d}")
      try demand(try attached.finish() == 0, attached.output)
      try until("it is gone") { try !runs("perl late.pl") && !runs("sleep 4004") }
      try demand(try staying.allSatisfy(runs), "they are gone as well")
    }
    try matrix.check("killing us ends a session without a terminal", guest) {
      let inside = try sandbox.guest(machine)
      let sleeps = { try inside.shell("grep -lx sleep /proc/[0-9]*/comm | wc -l").text }
      let before = try sleeps()
      let program = try sandbox.start(["shell", "ada@\(machine)", "sh", "-c", "sleep 4005; true"])
      try until("it runs") { try sleeps() != before }
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 30)
      try until("it is gone") { try sleeps() == before }
    }
    try matrix.check("login has a prompt", guest) {
      let attached = try sandbox.attach("login", machine)
      try attached.expect("\(machine) login: ")
      // Since Debian 13 the program that asks for the password is a package of its own, and not in the least of systems.
      if try sandbox.guest(machine).run("test", "-x", "/bin/login").succeeded {
        attached.send("ada\r")
        try attached.expect("assword: ")
      }
      attached.send("\u{1d}\u{1d}\u{1d}")
      try demand(try attached.finish() == 0, attached.output)
    }
  }
}
