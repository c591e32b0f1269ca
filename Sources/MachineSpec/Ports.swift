/// The protocol of a port.
public enum Transport: String, SpecKeyword, Hashable {
  /// TCP.
  case tcp
  /// UDP.
  case udp
}

/// One port or a run of ports, 1 to 65535.
public struct PortRange: SpecValue, Hashable {
  /// The ports.
  public let ports: ClosedRange<UInt16>

  /// Takes `PORT` or `FIRST-LAST`.
  ///
  /// - Parameter text: the ports.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let (first, last) = text.cut(UInt8(ascii: "-")) ?? (text, text)
    guard let low = decimal(first, as: UInt16.self), let high = decimal(last, as: UInt16.self), low >= 1, low <= high
    else { throw SpecError("port", text, "allowed are 1 to 65535 and ranges FIRST-LAST") }
    ports = low...high
  }

  /// `PORT` or `FIRST-LAST`.
  public var description: String {
    ports.count == 1 ? String(ports.lowerBound) : "\(ports.lowerBound)-\(ports.upperBound)"
  }
}

/// `Port=`: ports of the host that lead into the machine.
public struct PublishedPort: SpecValue, Hashable {
  /// TCP, or UDP.
  public let transport: Transport
  /// The address of the host to listen on; nil is every address.
  public let bind: IPAddress?
  /// Ports of the host.
  public let host: PortRange
  /// As many ports of the machine.
  public let guest: PortRange
  /// The socket unit of the machine that takes the host's listening socket as it is; nil relays.
  public let socketUnit: String?

  private static let rule =
    "write [tcp|udp:][BIND:]HOST:GUEST[:NAME.socket], an IPv6 bind address in [], ranges FIRST-LAST of equal length"

  /// Takes `[tcp|udp:][BIND:]HOST:GUEST[:NAME.socket]`; `HOST` alone, without `BIND`, is the same port on both sides.
  ///
  /// - Parameter text: the ports.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let wrong = SpecError("port", text, Self.rule)
    var rest = text
    var transport = Transport.tcp
    if let (first, after) = rest.cut(.colon), let found = Transport(rawValue: first) {
      transport = found
      rest = after
    }
    var bind: IPAddress?
    if rest.utf8.first == UInt8(ascii: "[") {
      guard let (inner, after) = rest.cut(UInt8(ascii: "]")), after.utf8.first == .colon,
        case .v6 = try IPAddress(String(decoding: inner.utf8.dropFirst(), as: UTF8.self))
      else { throw wrong }
      bind = try IPAddress(String(decoding: inner.utf8.dropFirst(), as: UTF8.self))
      rest = String(decoding: after.utf8.dropFirst(), as: UTF8.self)
    }
    var parts = rest.fields(.colon)
    if let last = parts.last, last.hasSuffix(".socket") {
      guard isSocketUnit(last) else { throw SpecError("socket unit", last, "it is no unit name") }
      socketUnit = last
      parts.removeLast()
    } else {
      socketUnit = nil
    }
    if bind == nil, parts.count == 3, let first = parts.first {
      bind = try IPAddress(first)
      guard case .v4 = bind else { throw wrong }
      parts.removeFirst()
    }
    // A bind address with one port would read as a port of the host on its own: both are written out then.
    guard parts.count == 2 || parts.count == 1 && bind == nil, let first = parts.first, let last = parts.last
    else { throw wrong }
    self.transport = transport
    self.bind = bind
    host = try PortRange(first)
    guest = try PortRange(last)
    guard host.ports.count == guest.ports.count else {
      throw SpecError("port", text, "the ranges of the host and of the machine must be equally long")
    }
    guard socketUnit == nil || host.ports.count == 1 else {
      throw SpecError("port", text, "a socket unit takes one port, no range")
    }
  }

  /// The text that parses to this value, with the protocol and both ports written out.
  public var description: String {
    var parts = [transport.rawValue]
    switch bind {
    case .v4?: parts.append(bind?.description ?? "")
    case .v6?: parts.append("[\(bind?.description ?? "")]")
    case nil: break
    }
    parts += [host.description, guest.description]
    if let socketUnit { parts.append(socketUnit) }
    return parts.joined(separator: ":")
  }

  /// Whether both want the same port of the same address of the host.
  public func collides(with other: PublishedPort) -> Bool {
    guard transport == other.transport, host.ports.overlaps(other.host.ports) else { return false }
    switch (bind, other.bind) {
    case (nil, _), (_, nil): return true
    case (.v4?, .v6?), (.v6?, .v4?): return false
    case (let mine?, let theirs?): return mine == theirs || mine.isUnspecified || theirs.isUnspecified
    }
  }
}

/// `HostPort=`: ports on the host's loopback that the machine may reach.
public struct HostPort: SpecValue, Hashable {
  /// TCP, or UDP.
  public let transport: Transport
  /// The ports.
  public let range: PortRange

  /// Takes `[tcp|udp:]PORT` or `[tcp|udp:]FIRST-LAST`.
  ///
  /// - Parameter text: the ports.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    guard let (first, after) = text.cut(.colon) else {
      transport = .tcp
      range = try PortRange(text)
      return
    }
    guard let found = Transport(rawValue: first) else {
      throw SpecError("port", text, "write [tcp|udp:]PORT or [tcp|udp:]FIRST-LAST")
    }
    transport = found
    range = try PortRange(after)
  }

  /// The text that parses to this value, with the protocol written out.
  public var description: String { "\(transport):\(range)" }
}

/// Whether systemd takes the text as the name of a socket unit.
private func isSocketUnit(_ text: String) -> Bool {
  let stem = text.utf8.dropLast(".socket".utf8.count)
  return text.utf8.count <= 255 && !stem.isEmpty && stem.first != UInt8(ascii: "@")
    && stem.allSatisfy { $0.isLetter || $0.isDigit || "-_.\\@".utf8.contains($0) }
}
