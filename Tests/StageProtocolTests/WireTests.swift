import StageProtocol
import Testing

/// A plan that holds every operation once, so that a forgotten field shows as inequality.
let everything = StagePlan(
  name: "web", rootID: 524288, mountPoint: "/run/x",
  operations: [
    .isolateMounts,
    .root(.directory("/srv/web", mapped: true), readOnly: true),
    .root(
      .overlay(layers: [RootLayer(path: "/a", mapped: true)], upper: .directory(upper: "/u", work: "/w")),
      readOnly: false),
    .root(.overlay(layers: [], upper: .memory, userAttributes: true), readOnly: false),
    .root(.memory(usr: [RootLayer(path: "/b", mapped: false)]), readOnly: false),
    .checkInit(candidates: ["/sbin/init"], architecture: 62),
    .directory("/run/host", mode: 0o755), .file("/etc/x", mode: 0o644, contents: [0, 1, 255]),
    .symbolicLink("/etc/localtime", target: "../usr/share/zoneinfo/UTC"), .remove("/etc/resolv.conf"),
    .copy(source: "/etc/resolv.conf", path: "/etc/resolv.conf", mode: 0o644),
    .linkIfThere("/etc/localtime", target: "t", needs: "n"),
    .inaccessibleNodes("/run/host/inaccessible"),
    .memory("/run", kind: .ramfs, mode: 0o755, options: ["size=10%"], attributes: [.noSetID, .noDevices]),
    .bind(Bind(source: "/s", path: "/t", recursive: true, mapped: true, optional: false, attributes: .readOnly)),
    .device("/dev/null", major: 1, minor: 3), .notifySocket("/run/host/notify"), .sealMount("/run/host"),
    .watchedFolder("/run/systemd", mode: 0o755),
    .device("/dev/net/tun", major: 10, minor: 200), .unlayered("/var/lib/docker", upper: "/u"),
    .showKernel, .enterNamespaces(), .enterNamespaces(sharesNetwork: true), .hostname("web"), .adoptRoot,
    .mount(filesystem: "proc", path: "/proc", options: [], attributes: [.noExecute]),
    .console("/dev/console", devpts: "/dev/pts"), .mask("/proc/kcore"), .pivot,
    .watchConnections,
    .confine(dropped: [16, 17]),
  ],
  candidates: ["/sbin/init"], arguments: ["--show-status=no"], environment: ["container=henge"])

@Test func aPlanSurvivesTheWire() throws {
  #expect(try StagePlan(decoding: everything.encoded) == everything)
}

@Test func everyCutAndEveryFlippedByteGivesAValueOrAnError() {
  let bytes = everything.encoded
  for length in 0..<bytes.count {
    #expect(throws: WireError.self) { try StagePlan(decoding: Array(bytes[..<length])) }
  }
  for index in bytes.indices {
    for flip: UInt8 in [0x01, 0x80, 0xff] {
      var damaged = bytes
      damaged[index] ^= flip
      _ = try? StagePlan(decoding: damaged)
    }
  }
}

@Test func aCountThatLiesReservesNothing() {
  #expect(throws: WireError.self) {
    try StagePlan(decoding: [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
  }
}

@Test(arguments: [
  StageMessage.notifySocket, .console, .terminals, .connections, .watchedFolder, .leader(4242), .executing(1 << 40),
  .connection,
  .folder("/var/log/journal"), .mounted(1 << 33),
  .failed(StageFailure(operation: "open", subject: "/x", reason: "no such file", errno: 2)),
  .failed(StageFailure(operation: "boot", subject: "", reason: "other", errno: 0, advice: "mend it", code: 5)),
])
func aMessageSurvivesTheWire(message: StageMessage) throws {
  #expect(try StageMessage(decoding: message.encoded) == message)
  #expect(throws: WireError.self) { try StageMessage(decoding: message.encoded + [0]) }
}
