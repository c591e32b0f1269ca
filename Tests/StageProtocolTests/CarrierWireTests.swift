import StageProtocol
import Testing

@Suite struct CarrierWireTests {
  private static let forward = CarrierRequest.forward(
    ForwardRequest(
      supervisor: 7, workplace: "/run/x",
      tap: TapDevice(
        name: "eth0", hardware: [2, 0, 0, 0, 0, 1], mtu: 65520,
        addresses: [InterfaceAddress(bytes: [10, 0, 2, 100], prefix: 24)],
        gateways: [[10, 0, 2, 2], [UInt8](repeating: 1, count: 16)]), program: "/usr/bin/x", arguments: ["x", "-y"]))
  private static let relay = CarrierRequest.relay(
    RelayRequest(
      supervisor: 7, workplace: "/run/x", doors: [RelayDoor(datagrams: true, address: [10, 0, 2, 4], port: 53)]))
  private static let commands = [
    RelayCommand.publish(
      id: 3, datagrams: false,
      targets: [
        RelayTarget(address: [10, 0, 2, 100], port: 80),
        RelayTarget(address: [UInt8](repeating: 9, count: 16), port: 65535),
      ]), .withdraw(id: 4),
  ]

  @Test(arguments: [forward, relay])
  func requestsComeThroughAndNothingElseDoes(_ request: CarrierRequest) throws {
    let bytes = request.encoded
    #expect(try CarrierRequest(decoding: bytes) == request)
    for length in 0..<bytes.count {
      #expect(throws: WireError.self) { try CarrierRequest(decoding: Array(bytes.prefix(length))) }
    }
    #expect(throws: WireError.self) { try CarrierRequest(decoding: bytes + [0]) }
    for index in bytes.indices {
      var damaged = bytes
      damaged[index] ^= 0xff
      _ = try? CarrierRequest(decoding: damaged)
    }
  }

  @Test(arguments: commands)
  func commandsComeThroughAndNothingElseDoes(_ command: RelayCommand) throws {
    let bytes = command.encoded
    #expect(try RelayCommand(decoding: bytes) == command)
    for length in 0..<bytes.count {
      #expect(throws: WireError.self) { try RelayCommand(decoding: Array(bytes.prefix(length))) }
    }
  }
}
