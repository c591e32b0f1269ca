import MachineSpec
import Testing

/// For each key: its section, texts with the form that they are printed in, and texts that are refused.
private struct KeyCase: Sendable, CustomTestStringConvertible {
  var section: String
  var key: String
  var good: [(text: String, printed: String)]
  var bad: [String]

  init(_ section: String, _ key: String, good: [String: String] = [:], same: [String] = [], bad: [String]) {
    self.section = section
    self.key = key
    self.good = good.map { ($0, $1) } + same.map { ($0, $0) }
    self.bad = bad
  }

  var testDescription: String { "[\(section)] \(key)" }
}

private let sizes = [
  "infinity": "infinity", "1024": "1K", "1.5G": "1536M", "2T": "2T", "50%": "50%", "12.50%": "12.5%",
]
private let badSizes = ["-1", "+1", "1X", "101%", "%", ".5", "1.", "1 G", "18446744073709551616", "16E", "\u{661}"]
private let memoryKeys = ["MemoryMax", "MemoryHigh", "MemoryLow", "MemoryMin", "MemorySwapMax"]
private let deviceKeys = ["IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"]

private let cases: [KeyCase] =
  [
    KeyCase("Machine", "Hostname", same: ["web", "web.example.org"], bad: ["-a", "a b", "a..b", "\u{e4}"]),
    KeyCase(
      "Machine", "UUID", good: ["0123456789abcdeffedcba9876543210": "01234567-89ab-cdef-fedc-ba9876543210"],
      bad: ["1", "x", "00000000000000000000000000000000"]),
    KeyCase("Machine", "Boot", good: ["no": "no", "OFF": "no", "0": "no"], bad: ["maybe", "2"]),
    KeyCase(
      "Machine", "IDs", good: ["65536": "1x65536", "327680": "5x65536"], same: ["3x65536"],
      bad: ["0", "0x65536", "65535", "65537", "2x65537", "-1", "5x", "16385x65536", "99999999999", "0x10000"]),
    KeyCase("Machine", "Ephemeral", good: ["true": "yes", "on": "yes"], bad: ["nope"]),
    KeyCase("Machine", "Restart", same: ["on-failure", "always"], bad: ["yes", "on-abort", "On-Failure"]),
    KeyCase(
      "Machine", "RestartSec", good: ["2": "2s", "1min 500ms": "60500ms"], same: ["0s"], bad: ["-1", "infinity"]),
    KeyCase("Machine", "RestartMaxDelaySec", same: ["5s"], bad: ["2d", "infinity", "x"]),
    KeyCase("Machine", "StartLimitIntervalSec", good: ["1h": "3600s"], same: ["infinity", "0s"], bad: ["x"]),
    KeyCase("Machine", "StartLimitBurst", same: ["0", "1000000"], bad: ["-1", "1000001", "infinity"]),
    KeyCase(
      "Machine", "Parameters",
      good: ["'a b' c": "\"a b\"|c", "a\\x20\"b\"": "\"a b\"", "\"\"": "\"\"", "\\u00e4": "\u{e4}"],
      same: ["systemd.unit=rescue.target", "\"a\\\\b\"", "\"a\\\"b\""],
      bad: ["\"open", "a\\q", "\\x0", "\\x00", "\\xff", "\\400", "\\ud800"]),
    KeyCase(
      "Machine", "Environment", good: ["\"A=b c\" D=e": "\"A=b c\"|D=e", "A=1 A=2": "A=2"], same: ["A=", "A_1=x=y"],
      bad: ["A", "=x", "1A=x", "A-B=x", "A=\\x01", "container=lxc", "NOTIFY_SOCKET=/x", "container_uuid=1"]),
    KeyCase("Image", "Image", same: ["trixie"], bad: ["..", "a/b", "-rf"]),
    KeyCase("Image", "Directory", good: ["/srv//tree/": "/srv/tree"], bad: ["srv", "/", "/a/../b", "/a/./b"]),
    KeyCase("Files", "PrivateUsersOwnership", same: ["map", "chown"], bad: ["Map", "off", "yes"]),
    KeyCase("Files", "Volatile", good: ["true": "yes"], same: ["yes", "state", "overlay"], bad: ["maybe"]),
    KeyCase(
      "Files", "TemporaryFileSystem", good: ["/a//b": "/a/b"],
      same: ["/tmp", "/a b:size=64M,mode=0755,noexec", "/c:size=50%,nr_inodes=1k,uid=0,huge=always"],
      bad: [
        "/", "tmp", "/tmp:bogus", "/tmp:size=x", "/tmp:mode=999", "/tmp:mode=+755", "/tmp:uid=4294967295",
        "/tmp:size=101%", "/tmp:", "/a:rw:rw",
      ]),
    KeyCase(
      "Exec", "Capability", good: ["cap_bpf CAP_CHOWN": "CAP_CHOWN CAP_BPF", "ALL": "all", "all CAP_KILL": "all"],
      same: ["CAP_CHECKPOINT_RESTORE"], bad: ["CAP_FOO", "21", "~CAP_KILL", "CHOWN"]),
    KeyCase("Exec", "DropCapability", same: ["CAP_SYS_MODULE CAP_SYS_RAWIO", "all"], bad: ["CAP_SYSMODULE"]),
    KeyCase(
      "Exec", "LoadCredential", same: ["a:/b", "a.b-c:/with:colon"],
      bad: ["a", "a:", "a:b", ":/b", "..:/b", "a/b:/c", "\u{e4}:/c", "a:/b/../c"]),
    KeyCase(
      "Exec", "SetCredential",
      good: ["a:x\\ty": "a:x\\x09y", "a:\\0000": "a:\\x000", "a:\u{e4}": "a:\\xc3\\xa4", "a: b": "a:\\x20b"],
      same: ["a:", "a:b:c", "a:x\\ny", "a:x\\\\y", "a:\\x20x y\\x20"], bad: ["a", ":b", "a:\\q", "a:\\x1"]),
    KeyCase("Exec", "LinkJournal", same: ["no", "host", "try-host", "guest", "try-guest"], bad: ["yes", "tryhost"]),
    KeyCase(
      "Exec", "ResolvConf",
      same: ["off", "delete"]
        + ["copy", "replace", "bind"].flatMap { how in ["host", "static", "uplink", "stub"].map { "\(how)-\($0)" } },
      bad: ["copy", "bind-", "replace-all"]),
    KeyCase("Exec", "Timezone", same: ["off", "copy", "bind", "symlink", "delete"], bad: ["UTC", "no"]),
    KeyCase(
      "Exec", "KillSignal",
      good: [
        "TERM": "SIGTERM", "15": "SIGTERM", "RTMIN": "SIGRTMIN", "SIGRTMAX-30": "SIGRTMIN", "SIGRTMAX": "SIGRTMIN+30",
      ],
      same: ["SIGPWR", "SIGSYS", "SIGRTMIN+3"],
      bad: ["0", "32", "33", "65", "SIGFOO", "SIG", "SIGRTMIN+31", "SIGRTMIN+-1", "SIGRTMAX-31", "99999999999", "+5"]),
    KeyCase(
      "Exec", "TimeoutStopSec",
      good: [
        "1min 30s 1ms": "90001ms", "2min": "120s", "1h30min": "5400s", "0.5": "500ms", "7us": "7us", "0": "infinity",
        "1.5h": "5400s", "1d": "86400s",
      ],
      same: ["infinity", "5s"], bad: ["-1", "s", "1x", "1..5s", "99999999999999y", "1s infinity", "5 5 x"]),
    KeyCase("Resources", "CPUQuota", same: ["50%", "250%", "0.05%"], bad: ["0%", "50", "infinity", "1.234%", "-5%"]),
    KeyCase("Resources", "CPUWeight", same: ["1", "10000", "idle"], bad: ["0", "10001", "70000", "x"]),
    KeyCase("Resources", "IOWeight", same: ["1", "10000"], bad: ["0", "10001", "idle"]),
    KeyCase(
      "Files", "Unlayered", good: ["/a//b/": "/a/b"], same: ["/var/lib/docker"], bad: ["a", "/", "/run", "/proc/x"]),
    KeyCase(
      "Resources", "AllowedCPUs", good: ["3 0-1,2": "0-3", "8191": "8191", "5,5,7": "5,7"],
      bad: ["a", "1-", "-1", "3-1", "8192", "1-2-3", ","]),
    KeyCase(
      "Resources", "TasksMax", good: ["4K": "4000"], same: ["1", "10%", "infinity"], bad: ["0", "0%", "-1", "110%"]),
    KeyCase("Resources", "OOMPolicy", same: ["stop", "continue", "kill"], bad: ["restart"]),
    KeyCase(
      "Resources", "DeviceAllow", good: ["/dev/fuse": "/dev/fuse rwm", "char-pts wr": "char-pts rw"],
      same: ["block-* r", "\"/dev/a b\" m"], bad: ["/etc/x", "/dev", "/dev/fuse x", "/dev/fuse rr", "char-", "a b c"]),
    KeyCase(
      "Resources", "AutoScale",
      good: ["MemoryHigh 1024M 4G 0.5G": "MemoryHigh 1G 4G 512M", "CPUQuota 50% 200% 150%": "CPUQuota 50% 200% 150%"],
      same: ["CPUQuota 12.5% 100% 10%"],
      bad: [
        "MemoryHigh 1G 4G", "MemoryMax 1G 2G 1M", "MemoryHigh 2G 1G 1M", "MemoryHigh 1G 2G 0", "CPUQuota 50 200 25",
        "CPUQuota 50% 200% 151%", "MemoryHigh 10% 20% 5%", "CPUQuota 50% 50% 1%", "MemoryHigh 1G 2G 1M 5",
      ]),
    KeyCase("Network", "Mode", same: ["user", "none", "sockets", "veth", "host-insecure"], bad: ["host", "bridge"]),
    KeyCase("Network", "Forwarder", same: ["slirp4netns", "pasta"], bad: ["passt", "none"]),
    KeyCase("Network", "HandOff", good: ["true": "yes"], bad: ["2"]),
    KeyCase(
      "Network", "Port",
      good: [
        "8080:80": "tcp:8080:80", "8080": "tcp:8080:8080", "[::0]:1:2": "tcp:[::]:1:2",
        "1:2:a.socket": "tcp:1:2:a.socket",
      ],
      same: ["udp:53:53", "tcp:127.0.0.1:8000-8010:9000-9010", "udp:[2001:db8::1]:53:53", "tcp:80:80:nginx@1.socket"],
      bad: [
        "0:1", "1:65536", "1:2:3", "a:b", "1-2:1-3", "2-1:2-1", "[::1]:80", "[::1:80:80", "[1.2.3.4]:1:2", "::1:1:2",
        "1.2.3:1:2", "1.2.3.04:1:2", "1-2:1-2:a.socket", "1:2:.socket", "sctp:1:2", "tcp:", ":1:2", "1:",
        "[fe80::1%x]:1:1",
      ]),
    KeyCase(
      "Network", "HostPort", good: ["5432 udp:53": "tcp:5432|udp:53", "1-9": "tcp:1-9"], bad: ["0", "x:1", "9-1"]),
    KeyCase(
      "Network", "DNS",
      good: [
        "1.1.1.1 9.9.9.9": "1.1.1.1|9.9.9.9", "2001:DB8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
        "::ffff:1.2.3.4": "::ffff:102:304",
        "1:0:2:3:4:5:6:7": "1:0:2:3:4:5:6:7", "1::": "1::", "::": "::", "0:0:0:0:0:0:0:1": "::1",
      ],
      bad: [
        "1.1.1", "256.1.1.1", "01.1.1.1", ":::", "1::2::3", "1:2", "::1%lo", "12345::", "1:2:3:4:5:6:7:8:9", ":1::",
        "dns",
      ]),
    KeyCase(
      "Network", "MAC", good: ["02:00:00:AB:cd:01": "02:00:00:ab:cd:01"],
      bad: [
        "01:00:00:00:00:00", "00:00:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00", "02-00-00-00-00-01",
        "02:00:00:00:00:01:02",
      ]),
  ]
  + ["Bind", "BindReadOnly"].map { key in
    KeyCase(
      "Files", key,
      good: ["/a:/a": "/a", "-/a:/b:rbind,noidmap": "-/a:/b", "/a:/b:idmap,rootidmap": "/a:/b:rootidmap"],
      same: ["/a", "/a:/b", "/a:/a:norbind,owneridmap", "/a\\:b:/c\\\\d", "/:/host", "/with space/x:/y"],
      bad: [
        "a", "/a:b", "/", "/a:/", "/a:/b:ro", "/a:/b:", "/a:/b:rbind:x", "/a/..", "/a\\x20b", "+/a", "/a:", "--/a",
      ])
  }
  + memoryKeys.map { KeyCase("Resources", $0, good: sizes, bad: badSizes) }
  + deviceKeys.map {
    KeyCase(
      "Resources", $0, good: ["/dev/sda 10M": "/dev/sda 10000000", "\"/a b\" 5": "\"/a b\" 5"],
      same: ["/dev/sda infinity"],
      bad: ["/dev/sda", "sda 1", "/dev/sda 0", "/dev/sda 1 2", "/dev/sda -1", "/dev/sda 10%", "10M"])
  }

@Suite struct KeyTests {
  @Test(arguments: cases) private func goodValues(_ key: KeyCase) {
    for (text, printed) in key.good {
      let (spec, diagnostics) = parse("[\(key.section)]\n\(key.key)=\(text)\n")
      #expect(diagnostics.isEmpty, "\(text)")
      let lines = printed.split(separator: "|", omittingEmptySubsequences: false).map { "\(key.key)=\($0)\n" }
      #expect(spec.text == "[\(key.section)]\n" + lines.joined(), "\(text)")
      #expect(parse(spec.text).spec == spec, "\(text)")
      #expect(Spec.parse(files: [], commandLine: ["\(key.key)=\(text)"]).spec == spec, "\(text)")
    }
  }

  @Test(arguments: cases) private func badValues(_ key: KeyCase) {
    for text in key.bad {
      let (spec, diagnostics) = parse("[\(key.section)]\n\n\(key.key)=\(text)\n")
      #expect(spec == Spec(), "\(text)")
      #expect(diagnostics.count == 1 && diagnostics.first?.severity == .error, "\(text)")
      #expect(diagnostics.first?.description.hasPrefix("m:3: bad value \"") == true, "\(text)")
      #expect(diagnostics.first?.message.contains("for \(key.key)=: ") == true, "\(text)")
      #expect(diagnostics.first?.message.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f } == true, "\(text)")
    }
  }

  @Test(arguments: cases) private func emptyValueResets(_ key: KeyCase) throws {
    let good = try #require(key.good.first?.text)
    let (spec, diagnostics) = parse("[\(key.section)]\n\(key.key)=\(good)\n\(key.key)=\n")
    #expect(spec == Spec())
    #expect(diagnostics.isEmpty)
  }

  @Test func everyKeyIsTried() {
    #expect(Set(cases.map(\.key)).count == cases.count)
    let tried = cases.map { "[\($0.section)]\n\($0.key)=\($0.good.first?.text ?? "")\n" }.joined()
    #expect(!findings(tried).contains { $0.contains("unknown") })
    // All stored fields of the five sections: a key that is added without a row here changes this number.
    let spec = Spec()
    let sections: [Any] = [
      spec.machine, spec.machine.restart, spec.files, spec.exec, spec.resources, spec.network,
    ]
    // The restart settings are a field too, and no key.
    #expect(sections.map { Mirror(reflecting: $0).children.count }.reduce(0, +) == cases.count + 1)
  }
}
