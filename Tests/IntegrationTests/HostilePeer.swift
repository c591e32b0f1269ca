/// A peer that answers in a machine where its systemd should, and authenticates as any does.
enum HostilePeer {
  /// How it goes on after that, for programs that ask a systemd.
  static let ways = ["silent", "junk", "large", "error", "state", "units", "long", "many", "signals"]

  /// A program in Perl, to be called with one of the ways, or `old` for a systemd that knows no properties of open files.
  /// It is there when it returns, and takes the place of the one before.
  static let source = #"""
    # A peer at both places where a systemd is asked, that authenticates like any other and then does as its word says.
    use IO::Socket::UNIX;
    $mode = shift;
    if (open $before, "<", "/run/peers") { kill "KILL", <$before> }
    open $pids, ">", "/run/peers";
    $pids->autoflush(1);
    $SIG{CHLD} = "IGNORE";
    $SIG{PIPE} = "IGNORE";
    $evil = "\e[31mred\e]0;owned\a\x{c2}\x{9b}31m \xe2\x80\xae rtl\xe2\x81\xa6 a\nb\r\tc ";
    sub text { pack("V", length $_[0]) . "$_[0]\0" }
    sub pad { my $t = shift; $t .= "\0" while length($t) % 8; $t }
    sub message {
      my ($type, $serial, $fields, $body, $signature) = @_;
      $fields = pad($fields) . pack("C C a x", 8, 1, "g") . pack("C", length $signature) . "$signature\0" if $signature;
      pad(pack("a C C C V V V", "l", $type, 1, 1, length $body, ++$number, length $fields) . $fields) . $body;
    }
    sub units {
      my ($description, $count) = @_;
      my $all = "";
      for $n (1 .. $count) {
        $all = pad($all);
        for $word ("u$n-$evil.service", $description, "loaded", $evil, $evil, "") { $all .= "\0" while length($all) % 4; $all .= text($word) }
        $all .= "\0" while length($all) % 4; $all .= text("/a");
        $all .= "\0" while length($all) % 4; $all .= pack("V", 0) . text("");
        $all .= "\0" while length($all) % 4; $all .= text("/a");
      }
      pack("V x4", length $all) . $all;
    }
    sub answer {
      my ($serial, $what) = @_;
      my $to = pack("C C a x V", 5, 1, "u", $serial);
      my $error = pad($to) . pack("C C a x", 4, 1, "s") . text("org.evil.Error");
      if ($what =~ /Hello/) { return message(2, 0, $to, text(":1.1"), "s") }
      if ($what =~ /Ping|AddMatch/) { return message(2, 0, $to, "", "") }
      if ($mode eq "old" && $what =~ /StartTransientUnit/) {
        open my $asked, ">>", "/run/asked";
        print $asked "x";
        return message(3, 0, pad($to) . pack("C C a x", 4, 1, "s") . text("org.freedesktop.DBus.Error.PropertyReadOnly"),
          text("Cannot set property StandardInputFileDescriptor, or unknown property."), "s");
      }
      if ($mode eq "large") { return message(2, 0, $to, pack("V", 100 << 20) . "x" x 100000000, "s") }
      if ($mode eq "error") { return message(3, 0, $error, text($evil x 40000), "s") }
      if ($what =~ /SystemState/ && $mode ne "state") { return message(2, 0, $to, "\1s\0\0" . text("running"), "v") }
      if ($what =~ /SystemState/) { return message(2, 0, $to, "\1s\0\0" . text($evil), "v") }
      if ($what =~ /ListUnits/ && $mode eq "units") { return message(2, 0, $to, units($evil x 20, 300), "a(ssssssouso)") }
      if ($what =~ /ListUnits/ && $mode eq "long") { return message(2, 0, $to, units($evil . "x" x (1 << 20), 12), "a(ssssssouso)") }
      if ($what =~ /ListUnits/ && $mode eq "many") { return message(2, 0, $to, units("x", 12000), "a(ssssssouso)") }
      message(3, 0, $error, text($evil), "s");
    }
    sub serve {
      my $peer = shift;
      my ($data, $piece, $began, $said) = ("", "");
      if ($mode eq "silent") { sleep 1000 }
      if ($mode eq "junk") { 1 while syswrite $peer, "A" x 65536 }
      while (sysread $peer, $piece, 65536) {
        $data .= $piece;
        syswrite $peer, "DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n" if !$said++;
        $began = 1 if !$began && $data =~ s/^.*BEGIN\r\n//s;
        next if !$began;
        while (length($data) >= 16) {
          my ($size, $serial, $fields) = unpack "x4 V V V", $data;
          my $all = 16 + $fields; $all += 8 - $all % 8 if $all % 8; $all += $size;
          last if length($data) < $all;
          my $what = substr $data, 0, $all, "";
          my $back = answer($serial, $what);
          while (length $back) { my $n = syswrite($peer, $back, 1 << 20); last if !$n; substr($back, 0, $n) = "" }
        }
        if ($mode eq "signals" && $began) {
          my $fields = pad(pack("C C a x", 1, 1, "o") . text("/org/freedesktop/systemd1"));
          $fields = pad($fields . pack("C C a x", 2, 1, "s") . text("org.freedesktop.systemd1.Manager"));
          $fields = pad($fields . pack("C C a x", 3, 1, "s") . text("UnitNew"));
          $fields = pad($fields . pack("C C a x", 7, 1, "s") . text("org.freedesktop.systemd1"));
          my $one = message(4, 0, $fields, text("u.service") . "\0\0" . text("/a"), "so");
          1 while syswrite $peer, $one x 100;
        }
      }
    }
    for $path ($mode eq "old" ? () : "/run/dbus/system_bus_socket", "/run/systemd/private") {
      unlink $path;
      my $server = IO::Socket::UNIX->new(Local => $path, Listen => 50) or die;
      chmod 0777, $path;
      if ($pid = fork) { print $pids "$pid\n"; next }
      while ($peer = $server->accept) {
        if (!fork) { print $pids "$$\n"; serve($peer); exit }
        close $peer;
      }
    }
    """#
}
