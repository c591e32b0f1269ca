import MachineSpec
import Testing

@Suite struct SpecParseTests {
  @Test func dropInsAndCommandLineComeLater() throws {
    let files = [
      Spec.File(
        name: "web.machine", bytes: Array("[Machine]\nHostname=a\nEnvironment=A=1 B=2\n[Files]\nBind=/x\n".utf8)),
      Spec.File(
        name: "10.conf", bytes: Array("[Machine]\nHostname=b\nEnvironment=A=3\n[Files]\nBind=\nBind=/y\n".utf8)),
    ]
    let (spec, diagnostics) = Spec.parse(files: files, commandLine: ["Machine.Hostname=c", "MemoryMax=1G", "Bind=/z"])
    #expect(diagnostics.isEmpty)
    #expect(spec.machine.hostname?.description == "c")
    #expect(spec.machine.environment.map(\.description) == ["A=3", "B=2"])
    #expect(spec.files.bind.map(\.source.description) == ["/y", "/z"])
    #expect(spec.resources.memoryMax == .bytes(1 << 30))
  }

  @Test(arguments: [
    ("[Machine]\nHostnme=a", "m:2: warning: unknown key Hostnme= in [Machine], ignored; did you mean Hostname=?"),
    ("[Machine]\nhostname=a", "m:2: warning: unknown key hostname= in [Machine], ignored; did you mean Hostname=?"),
    ("[Machine]\nBind=/a", "m:2: warning: unknown key Bind= in [Machine], ignored; it belongs in [Files]"),
    ("[Machine]\nZzz=a", "m:2: warning: unknown key Zzz= in [Machine], ignored"),
    ("[Exec]\nPrivateUsers=pick", "m:2: warning: unknown key PrivateUsers= in [Exec], ignored"),
    ("\n[Machin]\nA=b\nC=d", "m:2: warning: unknown section [Machin], ignored; did you mean [Machine]?"),
    ("[\u{1b}x]", "m:1: \"[\\x1bx]\" is not a section header, write [Section]"),
    ("[Exec]\nSetCredential=a:secret\\q", "m:2: bad value \"(hidden)\" for SetCredential=: "),
    ("[Resources]\nMemoryMax=0", "m:2: bad value \"0\" for MemoryMax=: it must be more than zero"),
    ("[Exec]\nCapability=CAP_SYS_ADMI", "m:2: bad value \"CAP_SYS_ADMI\" for Capability=: allowed are all"),
  ])
  func oneFinding(_ text: String, _ start: String) {
    let found = findings(text)
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix(start) == true, "\(found)")
    #expect(found.first?.contains("secret") == false)
  }

  @Test func nothingIsSuggestedForWordsFarFromAny() {
    #expect(findings("[Machine]\nZzz=a") == ["m:2: warning: unknown key Zzz= in [Machine], ignored"])
    #expect(findings("[Zzz]") == ["m:1: warning: unknown section [Zzz], ignored"])
  }

  @Test func extensionsOfOthersAreSilent() { #expect(findings("[X-Other]\na=b\n[Machine]\nX-Note=1").isEmpty) }

  @Test func allFindingsInTheOrderOfTheText() {
    let text = "[Machine]\nBoot=x\nFoo=1\njunk\n[Nope]\n[Exec]\nTimezone=x\nKillSignal=x\n"
    #expect(parse(text).diagnostics.map(\.line) == [2, 3, 4, 5, 7, 8])
  }

  @Test(arguments: [
    ("Nope=1", "command line:1: unknown key \"Nope\""),
    ("Machine.Bind=/a", "command line:1: unknown key \"Machine.Bind\""),
    ("MemoryMaxx=1", "command line:1: unknown key \"MemoryMaxx\"; did you mean MemoryMax=?"),
    ("Hostname", "command line:1: \"Hostname\" is not [SECTION.]KEY=VALUE"), ("", "command line:1: \"\" is not"),
    ("Parameters=a\0b", "command line:1: \"Parameters\" is not"), ("Boot=x", "command line:1: bad value \"x\""),
  ])
  func commandLineErrors(_ argument: String, _ start: String) {
    let found = Spec.parse(files: [], commandLine: [argument]).diagnostics
    #expect(found.count == 1 && found.first?.severity == .error)
    #expect(found.first?.description.hasPrefix(start) == true, "\(found)")
  }

  @Test(arguments: [
    ("[Image]\nImage=a\nDirectory=/b", "m:3: Directory= cannot stand beside Image= (m:2)"),
    (
      "[Files]\nBind=/a:/t\nTemporaryFileSystem=/t",
      "m:3: TemporaryFileSystem= mounts on \"/t\", and so does Bind= at m:2"
    ),
    ("[Files]\nBind=/a:/t\nBindReadOnly=/b:/t/", "m:3: BindReadOnly= mounts on \"/t\", and so does Bind= at m:2"),
    ("[Files]\nBind=/q\nBind=\nBind=/a:/t\nBind=/b:/t", "m:5: Bind= mounts on \"/t\", and so does Bind= at m:4"),
    ("[Network]\nPort=80:1\nPort=70-90:70-90", "m:3: Port= publishes tcp 70-90 of the host, and so does m:2"),
    ("[Network]\nPort=1.1.1.1:80:1\nPort=0.0.0.0:80:2", "m:3: Port= publishes tcp 80 of the host"),
    ("[Exec]\nCapability=CAP_BPF\nDropCapability=CAP_BPF", "m:3: warning: DropCapability= takes away"),
    ("[Resources]\nMemoryMax=1G\nMemoryHigh=2G", "m:3: warning: MemoryHigh= is above MemoryMax= (m:2)"),
    ("[Network]\nMode=none\nPort=1:1", "m:3: warning: Port= has no effect with Mode=none"),
    ("[Network]\nMode=host-insecure\nPort=1:1", "m:3: Port= cannot stand beside Mode=host-insecure"),
    ("[Network]\nHostPort=1\nMode=host-insecure", "m:2: HostPort= cannot stand beside Mode=host-insecure"),
    ("[Network]\nMode=host-insecure\nHandOff=yes", "m:3: HandOff= cannot stand beside Mode=host-insecure"),
    ("[Network]\nMode=veth\nHandOff=yes", "m:3: HandOff= cannot stand beside Mode=veth"),
    ("[Network]\nMode=sockets\nHandOff=no", "m:3: HandOff= cannot stand beside Mode=sockets"),
    ("[Network]\nMode=host-insecure\nMAC=02:00:00:00:00:01", "m:3: warning: MAC= has no effect"),
  ])
  func conflicts(_ text: String, _ start: String) {
    let found = findings(text)
    #expect(found.count == 1 && found.first?.hasPrefix(start) == true, "\(found)")
  }

  @Test(arguments: [
    "[Network]\nPort=tcp:80:1\nPort=udp:80:1", "[Network]\nPort=1.1.1.1:80:1\nPort=1.1.1.2:80:1",
    "[Network]\nPort=0.0.0.0:80:1\nPort=[::]:80:1", "[Exec]\nCapability=all\nDropCapability=CAP_BPF",
    "[Network]\nMode=host-insecure\nHandOff=no\nDNS=192.0.2.1", "[Image]\nImage=a\nDirectory=/b\nImage=",
    "[Files]\nBind=/a:/t\nTemporaryFileSystem=/t/u",
  ])
  func noConflict(_ text: String) { #expect(findings(text).isEmpty) }

  @Test func listsAreBounded() {
    let lines = (0...4096).map { "Bind=/a:/b\($0)\n" }.joined()
    let (spec, diagnostics) = parse("[Files]\n" + lines)
    #expect(spec.files.bind.count == 4096)
    #expect(diagnostics.map(\.line) == [4098])
  }

  @Test(.timeLimit(.minutes(1)), arguments: ["Environment=A", "Hostna"])
  func hostileSizesEndSoon(_ start: String) {
    let lines = (0..<40_000).map { "\(start)\($0)=1" }
    let (_, diagnostics) = parse("[Machine]\n" + lines.joined(separator: "\n"))
    #expect(diagnostics.count == 1001)
    #expect(diagnostics.last?.message == "too many findings, the rest is left out")
  }

  @Test func openEscapesOnTheCommandLine() {
    #expect(Spec.parse(files: [], commandLine: ["Parameters=a\\"]).diagnostics.count == 1)
  }

  @Test func mountsComeParentFirst() throws {
    let spec = parse(
      "[Files]\nBind=/s:/a/b/c\nTemporaryFileSystem=/a-x\nBindReadOnly=/s:/a/b\nTemporaryFileSystem=/a\n"
    ).spec
    #expect(spec.files.mounts.map(\.destination.description) == ["/a", "/a/b", "/a/b/c", "/a-x"])
  }

  @Test func secondNames() {
    #expect(parse("[Machine]\nBootArguments=a b").spec.machine.parameters == ["a", "b"])
    #expect(parse("[Image]\nPrivateUsersOwnership=map\n[Files]\nImage=x").spec.files.privateUsersOwnership == .map)
  }

  @Test func defaults() {
    let spec = Spec()
    #expect(spec.text == "")
    #expect(spec.machine.boot && !spec.machine.ephemeral)
    #expect(spec.exec.timeoutStop.duration == .seconds(90))
    #expect(TimeSpan.infinity.duration == nil)
    #expect(spec.network.mode == nil)
  }
}
