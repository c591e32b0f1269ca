extension CarrierRequest {
  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .forward(let request):
      writer.byte(1)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.interface(request.tap)
      writer.text(request.program)
      writer.list(request.arguments) { $0.text($1) }
    case .relay(let request):
      writer.byte(2)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.list(request.doors) {
        $0.bool($1.datagrams); $0.data($1.address); $0.integer($1.port); $0.targets($1.targets)
      }
      writer.bool(request.isOffering)
    case .broker(let request):
      writer.byte(3)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.text(request.interface)
      writer.bool(request.isPassing)
    case .attach(let request):
      writer.byte(4)
      writer.integer(request.supervisor)
      writer.bool(request.hostEnd != nil)
      if let end = request.hostEnd {
        writer.text(end.name)
        writer.data(end.hardware)
        writer.addresses(end.addresses)
      }
      writer.interface(request.interface)
    }
    return writer.bytes
  }

  /// Reads a request.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one request.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1:
      self = .forward(
        ForwardRequest(
          supervisor: try reader.integer(), workplace: try reader.text(),
          tap: try reader.interface(), program: try reader.text(), arguments: try reader.texts()))
    case 2:
      self = .relay(
        RelayRequest(
          supervisor: try reader.integer(), workplace: try reader.text(),
          doors: try reader.list { (reader) throws(WireError) in
            RelayDoor(
              datagrams: try reader.bool(), address: try reader.address(), port: try reader.integer(),
              targets: try reader.targets())
          }, isOffering: try reader.bool()))
    case 3:
      self = .broker(
        BrokerRequest(
          supervisor: try reader.integer(), workplace: try reader.text(), interface: try reader.text(),
          isPassing: try reader.bool()))
    case 4:
      let supervisor: Int32 = try reader.integer()
      var end: HostEnd?
      if try reader.bool() {
        end = HostEnd(
          name: try reader.text(), hardware: try reader.hardwareAddress(), addresses: try reader.addresses())
      }
      self = .attach(AttachRequest(supervisor: supervisor, hostEnd: end, interface: try reader.interface()))
    default: throw WireError(expected: "a request to a carrier")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the request") }
  }
}

extension RelayCommand {
  /// The command as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .publish(let id, let datagrams, let isOffered, let targets):
      writer.byte(1)
      writer.integer(id)
      writer.bool(datagrams)
      writer.bool(isOffered)
      writer.targets(targets)
    case .withdraw(let id):
      writer.byte(2)
      writer.integer(id)
    }
    return writer.bytes
  }

  /// Reads a command.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one command.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1:
      self = .publish(
        id: try reader.integer(), datagrams: try reader.bool(), isOffered: try reader.bool(),
        targets: try reader.targets())
    case 2: self = .withdraw(id: try reader.integer())
    default: throw WireError(expected: "a command to a relay")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the command") }
  }
}

extension OfferMessage {
  /// The message as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .make(let offer):
      writer.byte(1)
      writer.integer(offer.slot)
      writer.integer(offer.word)
      writer.target(offer.origin)
      writer.integer(offer.port)
      writer.target(offer.client)
      writer.integer(offer.scope)
    case .withdraw(let slot):
      writer.byte(2)
      writer.integer(slot)
    case .forgetAll: writer.byte(3)
    }
    return writer.bytes
  }

  /// Reads a message.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one message.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1:
      self = .make(
        Offer(
          slot: try reader.integer(), word: try reader.integer(), origin: try reader.target(),
          port: try reader.integer(), client: try reader.target(), scope: try reader.integer()))
    case 2: self = .withdraw(slot: try reader.integer())
    case 3: self = .forgetAll
    default: throw WireError(expected: "a message of offers")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the message") }
  }
}

extension WireWriter {
  fileprivate mutating func interface(_ interface: MachineInterface) {
    text(interface.name)
    data(interface.hardware)
    integer(interface.mtu)
    addresses(interface.addresses)
    list(interface.gateways) { $0.data($1) }
  }

  fileprivate mutating func addresses(_ addresses: [InterfaceAddress]) {
    list(addresses) {
      $0.data($1.bytes); $0.byte($1.prefix)
    }
  }

  fileprivate mutating func targets(_ targets: [RelayTarget]) {
    list(targets) { $0.target($1) }
  }

  fileprivate mutating func target(_ target: RelayTarget) {
    data(target.address)
    integer(target.port)
  }
}

extension WireReader {
  fileprivate mutating func interface() throws(WireError) -> MachineInterface {
    MachineInterface(
      name: try text(), hardware: try hardwareAddress(), mtu: try integer(), addresses: try addresses(),
      gateways: try list { (reader) throws(WireError) in try reader.address() })
  }

  fileprivate mutating func addresses() throws(WireError) -> [InterfaceAddress] {
    try list { (reader) throws(WireError) in
      InterfaceAddress(bytes: try reader.address(), prefix: try reader.byte())
    }
  }

  fileprivate mutating func targets() throws(WireError) -> [RelayTarget] {
    try list { (reader) throws(WireError) in try reader.target() }
  }

  fileprivate mutating func target() throws(WireError) -> RelayTarget {
    RelayTarget(address: try address(), port: try integer())
  }

  fileprivate mutating func address() throws(WireError) -> [UInt8] {
    let bytes = try data()
    guard bytes.count == 4 || bytes.count == 16 else { throw WireError(expected: "an address of 4 or 16 bytes") }
    return bytes
  }

  fileprivate mutating func hardwareAddress() throws(WireError) -> [UInt8] {
    let bytes = try data()
    guard bytes.count == 6 || bytes.isEmpty else { throw WireError(expected: "an address of 6 bytes, or none") }
    return bytes
  }
}
