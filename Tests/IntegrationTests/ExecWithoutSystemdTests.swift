import Glibc
import Linux
import Testing

/// Commands in a machine whose init takes none: with the same results.
@Suite("exec without systemd", .serialized)
struct ExecWithoutSystemdTests {
  /// A root with a few programs of the host's, and the libraries that they name.
  private func makeRoot(_ sandbox: Sandbox) throws -> String {
    let root = try sandbox.makeRoot("root")
    let script = #"""
      for name in sh cat id sleep tty stty; do
        program=$(readlink -f "$(command -v "$name")"); cp "$program" "$0/bin/$name"
        for library in $(ldd "$program" | grep -o '/[^ )]*'); do
          mkdir -p "$0${library%/*}"; cp -L "$library" "$0$library"
        done
      done
      printf 'root:x:0:0::/root:/bin/sh\nada:x:7:8::/tmp:/bin/sh\n' >"$0/etc/passwd"
      printf 'root:x:0:\nada:x:8:\nmore:x:9:eve,ada\n' >"$0/etc/group"
      """#
    try runWell(["sh", "-ec", script, root])
    return root
  }

  @Test(.needsRoot, .needsPrograms, .needsCompiler)
  func aJoinedCommandIsLikeAnyOther() throws {
    try withSandbox("nosystemd") { sandbox in
      try sandbox.makeWork()
      let machine = try sandbox.makeMachine("plain", root: try makeRoot(sandbox))
      #expect(try sandbox.hengectl("start", machine).code == 3)
      let uids = try sandbox.guest(machine).uids
      func line(_ line: String, _ expected: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try sandbox.shell("m=\(machine); \(line)")
        #expect(outcome.text == expected, "\(outcome)", sourceLocation: sourceLocation)
      }
      for (command, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("exit 127", 127)] as [(String, Int32)]
      {
        #expect(try sandbox.hengectl("exec", machine, "--", "sh", "-c", command).code == code)
      }
      try line(
        "$h exec $m -- id -u; $h exec $m --user ada -- id -G; $h exec $m --user 7 -- sh -c 'echo $HOME'", "0\n8 9\n/tmp"
      )
      try line(
        "$h exec --workdir /etc --env A='b c' $m -- sh -c 'echo $A; pwd; echo x >/dev/stdout' | cat", "b c\n/etc\nx")
      try line("head -c 67108864 /dev/zero | $h exec $m -- cat | sha256sum | cut -c1-16", "3b6a07d0d404fab4")
      try line(
        "$h exec $m -- sh -c 'echo out; echo err >&2' 2>/dev/null; $h shell ada@$m sh -c 'pwd; echo $USER'",
        "out\n/tmp\nada")
      for (arguments, code, words) in [
        (["--", "no-such"], Int32(127), "no such file"), (["--user", "eve", "--", "id"], 126, "no such user"),
        (["--workdir", "/no", "--", "id"], 126, "no such file"),
        (["--timeout", "0.5", "--", "sleep", "99"], 124, "time"),
      ] {
        let outcome = try sandbox.hengectl(["exec", machine] + arguments, deadline: 20)
        expectRefusal(outcome, code: code, words)
      }
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", "tty; stty size; read x", size: (77, 31))
      try attached.expect("/dev/pts/")
      try attached.expect("31 77")
      attached.send("\u{3}")
      #expect(try attached.finish() == 130)

      // Whoever asked for it is gone, and so is all of it.
      let program = try sandbox.start(["exec", machine, "--", "sh", "-c", "sleep 1234 & sleep 1234"])
      let sleeps = { Host.processes(ofUIDs: uids).filter { $0.contains("sleep") }.count }
      try until("both of them run") { sleeps() == 2 }
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 10)
      try until("both of them are gone") { sleeps() == 0 }
      let group = try #require(try sandbox.status(machine, "cgroup")?.stringValue)
      try until("so are their groups") { !names(in: "\(group)/payload").contains { $0.hasPrefix("henge-") } }
      try sandbox.succeed("terminate", machine)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aSystemdThatIsTooOldIsAskedOnce() throws {
    try withSandbox("oldsystemd") { sandbox in
      try sandbox.image("trixie")
      let machine = sandbox.name("oldsystemd")
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      let guest = try sandbox.guest(machine)
      try write(HostilePeer.source, to: "\(sandbox.folder)/peer.pl")
      try sandbox.succeed("copy-to", machine, "\(sandbox.folder)/peer.pl", "/root/peer.pl")
      try guest.shell("perl /root/peer.pl old >/dev/null 2>&1 </dev/null")
      func line(_ line: String, _ expected: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try sandbox.shell("m=\(machine); \(line)", deadline: 60)
        #expect(outcome.text == expected, "\(outcome)", sourceLocation: sourceLocation)
      }
      try line("echo in | $h exec $m -- sh -c 'cat; echo err >&2; exit 7' 2>&1; echo $?", "in\nerr\n7")
      try line("head -c 16777216 /dev/zero | $h exec $m -- cat | wc -c", "16777216")
      try line(
        "$h exec --user daemon --workdir /etc $m -- sh -c 'id -un; pwd; echo x >/dev/stdout' | cat",
        "daemon\n/etc\nx")
      // Nothing is started after the words: a shell that has just forked by vfork(2) lets an interrupt pass.
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", "stty size; read x", size: (77, 31))
      try attached.expect("31 77")
      attached.send("\u{3}")
      #expect(try attached.finish() == 130)
      let late = try sandbox.hengectl("exec", "--timeout", "1", machine, "--", "sleep", "99", deadline: 20)
      expectRefusal(late, code: 124, "time")
      #expect(try guest.run("cat", "/run/asked").output == "x")
      try sandbox.succeed("terminate", machine)
    }
  }
}
