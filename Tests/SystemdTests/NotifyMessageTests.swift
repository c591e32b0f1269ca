import Systemd
import Testing

@Suite struct NotifyMessageTests {
  private func parse(_ text: String) -> NotifyMessage { NotifyMessage(parsing: text.utf8) }

  @Test func everyKnownAssignmentIsRead() {
    let message = parse(
      """
      READY=1
      STOPPING=1
      RELOADING=1
      STATUS=a = b
      ERRNO=5
      EXIT_STATUS=3
      X_SYSTEMD_UNIT_ACTIVE=basic.target
      X_SYSTEMD_UNIT_ACTIVE=multi-user.target
      X_SYSTEMD_UNIT_INACTIVE=a.service
      X_SYSTEMD_SHUTDOWN=reboot
      X_SYSTEMD_REBOOT_PARAMETER=now
      X_SYSTEMD_SIGNALS_LEVEL=2
      X_SYSTEMD_HOSTNAME=stone
      X_SYSTEMD_MACHINE_ID=0123
      MEMORY_PRESSURE_WRITE=x
      MAINPID=1

      """)
    #expect(message.isReady && message.isStopping && message.isReloading)
    #expect(message.status == "a = b" && message.errno == 5 && message.exitStatus == 3)
    #expect(message.activeUnits == ["basic.target", "multi-user.target"] && message.inactiveUnits == ["a.service"])
    #expect(message.shutdown == "reboot" && message.rebootParameter == "now" && message.signalsLevel == 2)
    #expect(message.hostname == "stone" && message.machineID == "0123")
    #expect(message.others.map(\.name) == ["MEMORY_PRESSURE_WRITE"])
  }

  @Test(arguments: [
    "", "\n\n", "=", "=1", "READY", "READY=", "READY=0", "READY=11", "ready=1", " READY=1", "\0READY=1",
  ])
  func whatIsNotReadyIsNotReady(_ text: String) {
    #expect(!parse(text).isReady)
  }

  @Test(arguments: [
    "ERRNO=0", "ERRNO=-1", "ERRNO=99999999999", "ERRNO=x", "EXIT_STATUS=256", "X_SYSTEMD_SIGNALS_LEVEL=-1",
  ])
  func numbersOutOfRangeAreNone(_ text: String) {
    #expect(parse(text) == NotifyMessage(parsing: []))
  }

  @Test func whatIsTooMuchIsDropped() {
    let many = String(repeating: "A=b\n", count: 1000) + "READY=1"
    #expect(parse(many).others.count == NotifyMessage.assignmentLimit)
    #expect(!parse(many).isReady)
    let long = parse("STATUS=" + String(repeating: "x", count: 100_000) + "\nREADY=1")
    #expect(long.status?.utf8.count == NotifyMessage.sizeLimit - 7)
    #expect(!long.isReady)
  }

  @Test func randomBytesNeverTrap() {
    var state: UInt64 = 1
    func random() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    let seed = Array("READY=1\nSTATUS=x\nERRNO=5\nX_SYSTEMD_UNIT_ACTIVE=a\n".utf8)
    for _ in 0..<20_000 {
      var bytes = seed
      for _ in 0..<4 { bytes[Int(random()) % bytes.count] = UInt8(truncatingIfNeeded: random()) }
      let message = NotifyMessage(parsing: bytes)
      #expect(message.others.count + message.activeUnits.count <= NotifyMessage.assignmentLimit)
    }
  }
}
