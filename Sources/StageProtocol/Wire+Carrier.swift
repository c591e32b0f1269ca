extension CarrierRequest {
  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .forward(let request):
      writer.byte(1)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.text(request.tap.name)
      writer.data(request.tap.hardware)
      writer.integer(request.tap.mtu)
      writer.list(request.tap.addresses) {
        $0.data($1.bytes); $0.byte($1.prefix)
      }
      writer.list(request.tap.gateways) { $0.data($1) }
      writer.text(request.program)
      writer.list(request.arguments) { $0.text($1) }
    case .relay(let request):
      writer.byte(2)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.list(request.doors) {
        $0.bool($1.datagrams); $0.data($1.address); $0.integer($1.port)
      }
    case .broker(let request):
      writer.byte(3)
      writer.integer(request.supervisor)
      writer.text(request.workplace)
      writer.text(request.interface)
      writer.bool(request.isPassing)
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
          tap: TapDevice(
            name: try reader.text(), hardware: try reader.hardwareAddress(), mtu: try reader.integer(),
            addresses: try reader.list { (reader) throws(WireError) in
              InterfaceAddress(bytes: try reader.address(), prefix: try reader.byte())
            }, gateways: try reader.list { (reader) throws(WireError) in try reader.address() }),
          program: try reader.text(), arguments: try reader.texts()))
    case 2:
      self = .relay(
        RelayRequest(
          supervisor: try reader.integer(), workplace: try reader.text(),
          doors: try reader.list { (reader) throws(WireError) in
            RelayDoor(datagrams: try reader.bool(), address: try reader.address(), port: try reader.integer())
          }))
    case 3:
      self = .broker(
        BrokerRequest(
          supervisor: try reader.integer(), workplace: try reader.text(), interface: try reader.text(),
          isPassing: try reader.bool()))
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
    case .publish(let id, let datagrams, let targets):
      writer.byte(1)
      writer.integer(id)
      writer.bool(datagrams)
      writer.list(targets) {
        $0.data($1.address); $0.integer($1.port)
      }
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
        id: try reader.integer(), datagrams: try reader.bool(),
        targets: try reader.list { (reader) throws(WireError) in
          RelayTarget(address: try reader.address(), port: try reader.integer())
        })
    case 2: self = .withdraw(id: try reader.integer())
    default: throw WireError(expected: "a command to a relay")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the command") }
  }
}

extension WireReader {
  fileprivate mutating func address() throws(WireError) -> [UInt8] {
    let bytes = try data()
    guard bytes.count == 4 || bytes.count == 16 else { throw WireError(expected: "an address of 4 or 16 bytes") }
    return bytes
  }

  fileprivate mutating func hardwareAddress() throws(WireError) -> [UInt8] {
    let bytes = try data()
    guard bytes.count == 6 else { throw WireError(expected: "an address of 6 bytes") }
    return bytes
  }
}
