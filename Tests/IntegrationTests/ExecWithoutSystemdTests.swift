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
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", "tty; stty size; sleep 1000", size: (77, 31))
      try attached.expect("/dev/pts/")
      try attached.expect("31 77")
      attached.send("\u{3}")
      #expect(try attached.finish() == 130)

      // Whoever asked for it is gone, and so is all of it.
      let program = try sandbox.start(["exec", machine, "--", "sh", "-c", "sleep 1234 & sleep 1234"])
      pause(milliseconds: 700)
      let sleeps = { Host.processes(ofUIDs: uids).filter { $0.contains("sleep") }.count }
      #expect(sleeps() == 2)
      program.signal(SIGKILL)
      _ = try program.wait(deadline: 10)
      let end = now() + 5_000_000_000
      while sleeps() > 0, now() < end { pause(milliseconds: 20) }
      #expect(sleeps() == 0)
      let group = try #require(try sandbox.status(machine, "cgroup")?.stringValue)
      pause(milliseconds: 300)
      #expect(!names(in: "\(group)/payload").contains { $0.hasPrefix("henge-") })
      try sandbox.succeed("terminate", machine)
    }
  }

  /// What a systemd from before the properties of open files answers, and any version to a question whether it is there.
  private static let olderSystemd = #"""
    use IO::Socket::UNIX;
    unlink "/run/systemd/private";
    $server = IO::Socket::UNIX->new(Local => "/run/systemd/private", Listen => 5) or die;
    open $asked, ">>", "/run/asked";
    $asked->autoflush(1);
    open $ready, ">", "/run/ready"; close $ready;
    sub field { my ($code, $type, $value) = @_; pack("x![8] C C a x", $code, 1, $type) . $value }
    sub text { pack("V", length $_[0]) . "$_[0]\0" }
    sub reply {
      my ($type, $serial, $name, $body) = @_;
      my $fields = pack("C C a x V", 5, 1, "u", $serial);
      $fields .= pack("C C a x", 4, 1, "s") . text($name) if $name;
      $fields .= "\0" while length($fields) % 8;
      $fields .= pack("C C a x", 8, 1, "g") . pack("C", 1) . "s\0" if $body;
      my $head = pack("a C C C V V V", "l", $type, 1, 1, length $body, ++$number, length $fields) . $fields;
      $head .= "\0" while length($head) % 8;
      return $head . $body;
    }
    while ($peer = $server->accept) {
      $data = "";
      while (sysread $peer, $piece, 65536) {
        $data .= $piece;
        if (!$began && $data =~ s/^.*BEGIN\r\n//s) { $began = 1 }
        elsif (!$began) { syswrite $peer, "DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n" if !$said++; next }
        while (length($data) >= 16) {
          my ($size, $serial, $fields) = unpack "x4 V V V", $data;
          my $all = 16 + $fields; $all += 8 - $all % 8 if $all % 8; $all += $size;
          last if length($data) < $all;
          my $message = substr $data, 0, $all, "";
          if ($message !~ /StartTransientUnit/) { syswrite $peer, reply(2, $serial, "", ""); next }
          print $asked "x";
          syswrite $peer, reply(3, $serial, "org.freedesktop.DBus.Error.PropertyReadOnly",
            text("Cannot set property StandardInputFileDescriptor, or unknown property."));
        }
      }
      $began = $said = 0;
    }
    """#

  @Test(.needsRoot, .needsPrograms, .needsImages)
  func aSystemdThatIsTooOldIsAskedOnce() throws {
    try withSandbox("oldsystemd") { sandbox in
      try sandbox.image("trixie")
      let machine = sandbox.name("oldsystemd")
      try sandbox.succeed("create", "trixie", machine)
      try sandbox.succeed("start", machine)
      let guest = try sandbox.guest(machine)
      try write(Self.olderSystemd, to: "\(sandbox.folder)/peer.pl")
      try sandbox.succeed("copy-to", machine, "\(sandbox.folder)/peer.pl", "/root/peer.pl")
      try guest.shell("perl /root/peer.pl >/dev/null 2>&1 </dev/null & until [ -e /run/ready ]; do sleep 0.05; done")
      func line(_ line: String, _ expected: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let outcome = try sandbox.shell("m=\(machine); \(line)", deadline: 60)
        #expect(outcome.text == expected, "\(outcome)", sourceLocation: sourceLocation)
      }
      try line("echo in | $h exec $m -- sh -c 'cat; echo err >&2; exit 7' 2>&1; echo $?", "in\nerr\n7")
      try line("head -c 16777216 /dev/zero | $h exec $m -- cat | wc -c", "16777216")
      try line("$h exec --user daemon --workdir /etc $m -- sh -c 'id -un; pwd; echo x >/dev/stdout' | cat", "daemon\n/etc\nx")
      let attached = try sandbox.attach("exec", machine, "--", "sh", "-c", "stty size; sleep 1000", size: (77, 31))
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
