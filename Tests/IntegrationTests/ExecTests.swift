import Glibc
import Linux
import Testing

/// Commands inside machines, with every guest.
@Suite("exec", .serialized)
struct ExecTests {
  static let guests = ["bullseye", "bookworm", "trixie", "forky"]

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func commandsRunAsIfTheyWereHere() throws {
    var matrix = Matrix(Self.guests)
    defer { matrix.show("exec") }
    for guest in Self.guests {
      try withSandbox("exec") { sandbox in
        try sandbox.image(guest)
        let machine = sandbox.name(guest)
        try sandbox.succeed("create", guest, machine)
        try sandbox.succeed("start", machine)
        try endings(&matrix, guest, machine, sandbox)
        try streams(&matrix, guest, machine, sandbox)
        try terminals(&matrix, guest, machine, sandbox)
        try units(&matrix, guest, machine, sandbox)
        try sandbox.succeed("poweroff", machine)
      }
    }
  }

  private func endings(_ matrix: inout Matrix, _ guest: String, _ machine: String, _ sandbox: Sandbox) throws {
    func code(_ arguments: String..., is expected: Int32) throws {
      let outcome = try sandbox.hengectl(["exec", machine, "--"] + arguments, deadline: 30)
      try demand(outcome.code == expected, "\(outcome)")
    }
    try matrix.check("true, false, exit 203", guest) {
      try code("true", is: 0)
      try code("false", is: 1)
      // What systemd ends with when there is no such program.
      for _ in 0..<5 { try code("sh", "-c", "exit 203", is: 203) }
    }
    try matrix.check("sh -c 'kill -9 $$'", guest) {
      try code("sh", "-c", "kill -9 $$", is: 137)
      try code("sh", "-c", "kill -TERM $$", is: 143)
    }
    try matrix.check("no such program, user, folder", guest) {
      for (arguments, expected, words) in [
        (["--", "no-such-program"], Int32(127), "no such program"), (["--", "/no/such"], 127, "no such program"),
        (["--user", "nobody-here", "--", "true"], 126, "no user"),
        (["--workdir", "/no/such", "--", "true"], 126, "no directory"),
      ] {
        let outcome = try sandbox.hengectl(["exec", machine] + arguments, deadline: 30)
        try demand(outcome.code == expected && outcome.errorLines.count == 1, "\(outcome)")
        try demand(outcome.errors.contains(words), "\(outcome)")
      }
    }
    try matrix.check("--timeout", guest) {
      let outcome = try sandbox.hengectl("exec", "--timeout", "0.5", machine, "--", "sleep", "1000", deadline: 20)
      try demand(outcome.code == 124 && outcome.errors.contains("time was over"), "\(outcome)")
    }
  }

  private func streams(_ matrix: inout Matrix, _ guest: String, _ machine: String, _ sandbox: Sandbox) throws {
    func line(_ line: String, is expected: String) throws {
      let outcome = try sandbox.shell("m=\(machine); \(line)")
      try demand(outcome.text == expected, "\(outcome)")
    }
    try matrix.check("id -u", guest) {
      try line("$h exec $m -- id -u", is: "0")
      try line("$h exec --user daemon $m -- id -u; $h exec $m --user 1 -- id -un", is: "1\ndaemon")
    }
    try matrix.check("--env, --workdir, $ and % as they are", guest) {
      try line("$h exec $m --env A=1 --env 'B=x y' --workdir /usr -- sh -c 'echo \"$A$B $(pwd)\"'", is: "1x y /usr")
      try line(
        "$h exec $m -- printf '%s|' '$HOME' '${HOME}' '$$' %n '' 'a  b' -- -x", is: "$HOME|${HOME}|$$|%n||a  b|--|-x|")
    }
    try matrix.check("stdout and stderr apart", guest) {
      let outcome = try sandbox.hengectl("exec", machine, "--", "sh", "-c", "echo out; echo err >&2")
      try demand(outcome.output == "out\n" && outcome.errors == "err\n", "\(outcome)")
      try line("$h exec $m --user daemon -- sh -c 'echo a >/dev/stdout; echo b >/dev/stderr' 2>&1 | cat", is: "a\nb")
    }
    try matrix.check("the end of stdin, none, a closed one", guest) {
      try line("printf 'no end of line' | $h exec $m -- cat", is: "no end of line")
      try line("$h exec $m -- wc -c </dev/null; $h exec $m -- wc -c <&-", is: "0\n0")
      try line("$h exec $m -- yes | head -n 2", is: "y\ny")
      try line("{ yes; echo $? >&2; } 2>&1 | $h exec $m -- head -n 1", is: "y")
    }
    try matrix.check("64 MiB both ways, bit for bit", guest) {
      let made = "head -c 67108864 /dev/urandom >$HENGE_STATE_DIR/r; sha256sum <$HENGE_STATE_DIR/r >$HENGE_STATE_DIR/s"
      let pipe = "cat $HENGE_STATE_DIR/r | $h exec $m -- cat | sha256sum | cmp - $HENGE_STATE_DIR/s"
      let file = "$h exec $m -- cat <$HENGE_STATE_DIR/r >$HENGE_STATE_DIR/o; cmp $HENGE_STATE_DIR/r $HENGE_STATE_DIR/o"
      try line("\(made) && \(pipe) && \(file) && echo equal", is: "equal")
    }
    try matrix.check("--direct: the pipes themselves", guest) {
      // Which pipe it is: the same here and there, and without the option another.
      try line("{ readlink /proc/self/fd/1; $h exec --direct $m -- readlink /proc/self/fd/1; } | uniq | wc -l", is: "1")
      try line("{ readlink /proc/self/fd/1; $h exec $m -- readlink /proc/self/fd/1; } | uniq | wc -l", is: "2")
      let pipe = "cat $HENGE_STATE_DIR/r | $h exec --direct $m -- cat | sha256sum | cmp - $HENGE_STATE_DIR/s"
      try line("\(pipe) && echo equal", is: "equal")
      // An end gets through both ways, and a reader that goes away is the command's to notice.
      try line("$h exec $m --direct -- yes | head -n 2; printf x | $h exec $m --direct -- wc -c", is: "y\ny\n1")
      // Opened again it is what it was, for whoever runs there, and cannot be turned around.
      let again = "sh -c 'echo a >/dev/stdout; echo b >/dev/stderr'"
      try line("$h exec $m --direct --user daemon -- \(again) 2>&1 | cat", is: "a\nb")
      let turned = "sh -c 'timeout 2 cat /proc/self/fd/3 3>&1 >/dev/null; chmod 777 /dev/stdout'"
      try line(
        """
        { echo ours; $h exec $m --direct -- \(turned) 2>$HENGE_STATE_DIR/e; } | cat
        grep -c -e 'Permission denied' -e 'not permitted' $HENGE_STATE_DIR/e
        """, is: "ours\n2")
      // What is set on it there does not show here.
      let flag =
        "perl -e 'use Fcntl; fcntl STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK; print 2049 & fcntl STDOUT, F_GETFL, 0'"
      try line(
        "{ $h exec $m --direct -- \(flag); echo; grep flags /proc/self/fdinfo/1; } | cat", is: "2049\nflags:\t01")
      // What is no pipe stays here.
      try line(
        "$h exec $m --direct -- sh -c 'readlink /proc/$$/fd/1 | cut -c1-5' >$HENGE_STATE_DIR/o; cat $HENGE_STATE_DIR/o",
        is: "pipe:")
    }
    try matrix.check("nothing of the host's gets in", guest) {
      let directory = try sandbox.shell("$h exec \(machine) -- true </")
      try demand(directory.code == 2 && directory.errors.contains("is a directory"), "\(directory)")
      let kinds = "for f in /proc/self/fd/*; do readlink $f; done; test -t 0 || echo no terminal"
      let attached = try sandbox.attach("exec", "--no-pty", machine, "--", "sh", "-c", kinds)
      try attached.expect("no terminal")
      try demand(try attached.finish() == 0, attached.output)
      for line in attached.output.split(whereSeparator: \.isNewline) where line != "no terminal" {
        try demand(line.hasPrefix("pipe:") || line == "/dev/null" || line.hasPrefix("/proc/"), attached.output)
      }
    }
  }

  private func terminals(_ matrix: inout Matrix, _ guest: String, _ machine: String, _ sandbox: Sandbox) throws {
    try matrix.check("tty, stty size, a new size", guest) {
      let attached = try sandbox.attach(
        "exec", machine, "--", "sh", "-c", "tty; stty size; read x; stty size", size: (77, 31))
      try attached.expect("/dev/pts/")
      try attached.expect("31 77")
      attached.resize(columns: 100, rows: 40)
      // The key comes after the signal, through the same process, which looks for signals first.
      attached.send("\r")
      try attached.expect("40 100")
      try demand(try attached.finish() == 0, attached.output)
    }
    try matrix.check("^C, ^Z and ^\\ are the command's", guest) {
      let script = "trap 'echo int' INT; trap 'echo quit' QUIT; echo go; while :; do read x; done"
      // Nothing is started after the word: a shell that has just forked by vfork(2) lets an interrupt pass.
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", script)
      try attached.expect("go")
      attached.send("\u{3}")
      try attached.expect("int")
      attached.send("\u{1c}")
      try attached.expect("quit")
      _ = try attached.process.signal(0)
      let other = try sandbox.attach("exec", machine, "--", "sh", "-c", "echo go; read x")
      try other.expect("go")
      other.send("\u{3}")
      try demand(try other.finish() == 130, other.output)
    }
    try matrix.check("the terminal is left as it was", guest) {
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", "echo go; sleep 1000")
      let before = attached.settings.c_lflag
      try attached.expect("go")
      try demand(attached.settings.c_lflag & tcflag_t(ECHO | ICANON | ISIG) == 0, "it is not raw")
      for child in names(in: "/proc") where read("/proc/\(child)/stat")?.contains("(hengectl)") == true {
        guard let id = Int32(child), read("/proc/\(id)/cmdline")?.contains(machine) == true else { continue }
        kill(id, SIGTERM)
      }
      _ = try attached.finish()
      try demand(attached.settings.c_lflag == before, "it is still raw")
    }
  }

  private func units(_ matrix: inout Matrix, _ guest: String, _ machine: String, _ sandbox: Sandbox) throws {
    let inside = try sandbox.guest(machine)
    func running() throws -> String {
      try inside.succeed("systemctl", "list-units", "--plain", "--no-legend", "--no-pager", "henge-exec-*")
    }
    func waitUntilNothingRuns() throws {
      try until("nothing of them runs") { try running().isEmpty }
    }
    try matrix.check("in the guest's systemctl; kill -9 of hengectl", guest) {
      let program = try sandbox.start(["exec", machine, "--", "sleep", "1234"])
      try until("it is there") { try running().contains("active running Henge: sleep 1234") }
      let unit = try running().split(separator: " ").first.map(String.init) ?? ""
      let group = try inside.succeed("systemctl", "show", "--property=ControlGroup", "--value", unit)
      try demand(group == "/system.slice/\(unit)", group)
      // Where it moved itself to is where it was.
      try demand(Host.cgroup(program.id) == Host.cgroup(getpid()), Host.cgroup(program.id) ?? "no group")
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 10)
      try waitUntilNothingRuns()
    }
    try matrix.check("100 at once", guest) {
      let one = "$h exec \(machine) -- echo number $i || echo \"$i ended with $?\" >&2"
      let loop = "i=0; while [ $i -lt 100 ]; do { \(one); } & i=$((i+1)); done; wait"
      let outcome = try sandbox.shell(loop)
      let numbers = Set(outcome.output.split(separator: "\n").map(String.init))
      try demand(numbers == Set((0..<100).map { "number \($0)" }) && outcome.errors.isEmpty, "\(outcome)")
      try waitUntilNothingRuns()
    }
    try matrix.check("daemon-reexec meanwhile", guest) {
      let program = try sandbox.start(["exec", machine, "--", "sh", "-c", "sleep 3; exit 9"])
      try until("it is there") { try running().contains("active running Henge: sh -c") }
      try inside.succeed("systemctl", "daemon-reexec")
      let outcome = try program.wait(deadline: 30)
      try demand(outcome.code == 9, "\(outcome)")
    }
    try matrix.check("nothing is left of them", guest) {
      try waitUntilNothingRuns()
      let supervisor = try sandbox.hengectl("status", "--json", machine).json()["supervisor"]?.intValue ?? 0
      let open = names(in: "/proc/\(supervisor)/fd").count
      try demand(open < 40, "\(open) descriptors are open")
      // What kept moves quick has ended with them: a helper, and a timer of 8 ms.
      let process = Int32(clamping: supervisor)
      let group = (Host.cgroupMount ?? "") + (Host.cgroup(process) ?? "")
      try until("it is alone in its group") { read("\(group)/cgroup.procs") == "\(process)\n" }
      try until("it rests", within: 10) {
        func wakeUps() -> String? { Host.status(process, "voluntary_ctxt_switches") }
        let before = wakeUps()
        pause(milliseconds: 100)
        return before == wakeUps()
      }
      let terminals = try inside.succeed("ls", "/dev/pts").split(whereSeparator: \.isWhitespace)
      try demand(terminals.allSatisfy { $0 == "0" || $0 == "ptmx" }, "\(terminals)")
    }
  }
}
