import StageProtocol
import Testing

@Suite struct CarrierWireTests {
  private static let forward = CarrierRequest.forward(
    ForwardRequest(
      supervisor: 7, workplace: "/run/x",
      tap: MachineInterface(
        name: "eth0", hardware: [2, 0, 0, 0, 0, 1], mtu: 65520,
        addresses: [InterfaceAddress(bytes: [10, 0, 2, 100], prefix: 24)],
        gateways: [[10, 0, 2, 2], [UInt8](repeating: 1, count: 16)]), program: "/usr/bin/x", arguments: ["x", "-y"]))
  private static let relay = CarrierRequest.relay(
    RelayRequest(
      supervisor: 7, workplace: "/run/x",
      doors: [
        RelayDoor(
          datagrams: true, address: [10, 0, 2, 4], port: 53, targets: [RelayTarget(address: [127, 0, 0, 1], port: 54)])
      ], isOffering: true))
  private static let broker = CarrierRequest.broker(
    BrokerRequest(supervisor: 7, workplace: "/run/x", interface: "eth0"))
  private static let attach = CarrierRequest.attach(
    AttachRequest(
      supervisor: 7,
      hostEnd: HostEnd(
        name: "he-web-0008", hardware: [6, 0, 0, 0, 0, 1],
        addresses: [InterfaceAddress(bytes: [10, 216, 0, 33], prefix: 30)]),
      interface: MachineInterface(
        name: "eth0", hardware: [2, 0, 0, 0, 0, 1], mtu: 0, addresses: [], gateways: [[10, 216, 0, 33]])))
  private static let settle = CarrierRequest.attach(
    AttachRequest(
      supervisor: 7, interface: MachineInterface(name: "lo", hardware: [], mtu: 0, addresses: [], gateways: [])))
  private static let commands = [
    RelayCommand.publish(
      id: 3, datagrams: false, isOffered: true,
      targets: [
        RelayTarget(address: [10, 0, 2, 100], port: 80),
        RelayTarget(address: [UInt8](repeating: 9, count: 16), port: 65535),
      ]), .withdraw(id: 4),
  ]

  private static let offers = [
    OfferMessage.make(
      Offer(
        slot: 127, word: 1 << 40, origin: RelayTarget(address: [10, 0, 2, 100], port: 40000), port: 80,
        client: RelayTarget(address: [UInt8](repeating: 9, count: 16), port: 65535), scope: 3)),
    .withdraw(slot: 4), .forgetAll,
  ]

  @Test(arguments: [forward, relay, broker, attach, settle])
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

  @Test(
    arguments: [
      ([169, 254, 169, 254], true), ([169, 253, 255, 255], false), ([224, 0, 0, 1], true),
      ([239, 255, 255, 255], true),
      ([255, 255, 255, 255], true), ([223, 255, 255, 255], false), ([10, 0, 0, 1], false), ([254, 128, 0, 0], true),
    ] as [([UInt8], Bool)])
  func closedAddressesAreClosed(address: [UInt8], isClosed: Bool) {
    #expect(ClosedAddresses.holds(address) == isClosed)
  }

  @Test func closedAddressesOfIPv6AreClosed() {
    func six(_ head: [UInt8], _ tail: [UInt8] = []) -> [UInt8] {
      head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }
    for address in [
      six([0xfe, 0x80], [1]), six([0xfe, 0xbf], [1]), six([0xff, 2], [1]), six([0xfd, 0, 0xe, 0xc2], [2, 0x54]),
    ] {
      #expect(ClosedAddresses.holds(address), "\(address)")
    }
    for address in [six([0xfe, 0xc0], [1]), six([0x20, 1, 0xd, 0xb8], [1]), six([0xfd, 0, 0xe, 0xc2], [2, 0x55])] {
      #expect(!ClosedAddresses.holds(address), "\(address)")
    }
    #expect(!ClosedAddresses.holds([]))
  }

  @Test func theCountersFitBeforeTheCallInHand() {
    #expect(HandOffCounter.allCases.count * 8 <= HandOffMemory.slot)
    #expect(HandOffMemory.slot + HandOffMemory.slotSize <= HandOffMemory.offers)
  }

  @Test(arguments: offers)
  func offersComeThroughAndNothingElseDoes(_ message: OfferMessage) throws {
    let bytes = message.encoded
    #expect(try OfferMessage(decoding: bytes) == message)
    for length in 0..<bytes.count {
      #expect(throws: WireError.self) { try OfferMessage(decoding: Array(bytes.prefix(length))) }
    }
    #expect(throws: WireError.self) { try OfferMessage(decoding: bytes + [0]) }
  }

  /// Whoever still has the word of an offer before it cannot change that of the next one at the same place.
  @Test func noTwoOffersOfAPlaceHaveTheSameWord() {
    var word = OfferWord(0)
    var seen: Set<UInt64> = []
    for _ in 0..<100 {
      word = word.next
      #expect(word.state == .offered)
      for state in [OfferWord.State.offered, .taken, .returned, .free] {
        #expect(word.with(state).state == state && seen.insert(word.with(state).value).inserted)
      }
      word = word.with(.free)
    }
    #expect(OfferWord(.max).next.state == .offered)
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
