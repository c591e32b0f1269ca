import MachineSpec
import Testing

/// A spec with every kind of value, from which the mutations start.
private let seed = """
  [Machine]
  Hostname=web.example
  UUID=01234567-89ab-cdef-fedc-ba9876543210
  Parameters=systemd.unit=rescue.target "a b" \\
    c\\x20d
  Environment="A=b c" D=e
  Ephemeral=yes
  [Image]
  Image=trixie
  [Files]
  PrivateUsersOwnership=map
  Bind=-/srv/a\\:b:/srv/c:norbind,idmap
  BindReadOnly=/etc/hosts
  TemporaryFileSystem=/tmp:size=64M,mode=1777
  Volatile=state
  [Exec]
  Capability=CAP_BPF CAP_CHOWN
  DropCapability=CAP_MKNOD
  LoadCredential=db:/etc/db
  SetCredential=k:a\\nb\\x00\\u00e4
  ResolvConf=copy-host
  KillSignal=SIGRTMIN+3
  TimeoutStopSec=1min 30.5s
  [Resources]
  MemoryMax=1.5G
  CPUQuota=250.5%
  AllowedCPUs=0-3,8
  IOReadBandwidthMax="/dev/a b" 10M
  TasksMax=10%
  DeviceAllow=/dev/fuse rw
  [Network]
  Mode=user
  Port=tcp:[2001:db8::1]:8000-8010:9000-9010
  Port=udp:127.0.0.1:53:53:dns.socket
  HostPort=5432 udp:53
  DNS=1.1.1.1 2001:db8::2
  MAC=02:00:00:00:00:01

  """

@Suite struct MutationTests {
  /// What is parsed prints as text that parses, without a bad value, to the same.
  private func check(_ bytes: [UInt8]) -> Bool {
    let spec = Spec.parse(files: [Spec.File(name: "m", bytes: bytes)]).spec
    let text = spec.text
    let (again, diagnostics) = Spec.parse(files: [Spec.File(name: "m", bytes: Array(text.utf8))])
    return again == spec && !diagnostics.contains { $0.message.contains("bad value") }
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    let fragments = [
      "\\", "\"", "'", ":", "..", "=", "\n", " ", "[", "]", "-", "%", "\\x", "\u{301}", "18446744073709551615", ",",
    ]
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let at = Int.random(in: 0..<max(bytes.count, 1), using: &random)
      guard at < bytes.count else { return }
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[at] = UInt8.random(in: 0x20...0x7e, using: &random)
      case 2: bytes.remove(at: at)
      case 3: bytes.insert(contentsOf: Array((fragments.randomElement(using: &random) ?? "").utf8), at: at)
      case 4: bytes.removeSubrange(at..<min(at + 20, bytes.count))
      default:
        let from = Int.random(in: 0..<bytes.count, using: &random)
        bytes.insert(contentsOf: Array(bytes[from..<min(from + 30, bytes.count)]), at: at)
      }
    }
  }

  @Test func seedIsGood() {
    #expect(findings(seed).isEmpty)
    #expect(check(Array(seed.utf8)))
  }

  @Test(arguments: 0..<4) func mutatedSpecsRoundTrip(_ part: Int) {
    var random = SeededGenerator(state: UInt64(part))
    for number in 0..<3000 {
      var bytes = Array(seed.utf8)
      mutate(&bytes, &random)
      #expect(check(bytes), "part \(part), number \(number): \(String(decoding: bytes, as: UTF8.self))")
    }
  }

  @Test func randomBytes() {
    var random = SeededGenerator(state: 99)
    for number in 0..<4000 {
      let length = Int.random(in: 0...400, using: &random)
      let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(check(bytes), "number \(number): \(bytes)")
    }
  }

  /// Whatever a command line gives is parsed or refused, and prints as what parses to the same.
  @Test func mutatedCommandLines() {
    var random = SeededGenerator(state: 7)
    let lines = seed.split(separator: "\n").filter { $0.contains("=") }.map { Array($0.utf8) }
    for number in 0..<4000 {
      var bytes = lines.randomElement(using: &random) ?? []
      mutate(&bytes, &random)
      let argument = String(decoding: bytes, as: UTF8.self)
      let spec = Spec.parse(files: [], commandLine: [argument]).spec
      #expect(parse(spec.text).spec == spec, "number \(number): \(argument)")
    }
  }
}
