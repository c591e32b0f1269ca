/// An IPv4 or IPv6 address without a zone.
public enum IPAddress: SpecValue, Hashable {
  /// The address as a number, the first byte highest.
  case v4(UInt32)
  /// The address as a number, the first byte highest.
  case v6(UInt128)

  /// Takes dotted decimal or RFC 4291 notation.
  ///
  /// - Parameter text: the address, without brackets.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    if let address = parseV4(text) {
      self = .v4(address)
    } else if let address = parseV6(text) {
      self = .v6(address)
    } else {
      throw SpecError("address", text, "allowed are IPv4 and IPv6 addresses without a zone")
    }
  }

  /// Takes 4 or 16 bytes in network order; nil for any other number of them.
  public init?(_ bytes: [UInt8]) {
    switch bytes.count {
    case 4: self = .v4(bytes.reduce(0) { $0 << 8 | UInt32($1) })
    case 16: self = .v6(bytes.reduce(0) { $0 << 8 | UInt128($1) })
    default: return nil
    }
  }

  /// The bytes in network order, 4 or 16.
  public var bytes: [UInt8] {
    switch self {
    case .v4(let number): (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * UInt32($0))) }
    case .v6(let number): (0..<16).map { UInt8(truncatingIfNeeded: number >> (120 - 8 * UInt128($0))) }
    }
  }

  /// `0.0.0.0` or `::`, which as a bind address is every address of its family.
  public var isUnspecified: Bool { self == .v4(0) || self == .v6(0) }

  /// Dotted decimal, or the shortest form by RFC 5952.
  public var description: String {
    guard case .v6(let number) = self else { return bytes.map { String($0) }.joined(separator: ".") }
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: number >> (112 - 16 * UInt128($0))) }
    var best = 0..<0
    var start = 0
    for index in 0...8 where index == 8 || groups[index] != 0 {
      if index - start > max(best.count, 1) { best = start..<index }
      start = index + 1
    }
    let words = groups.map { String($0, radix: 16) }
    if best.isEmpty { return words.joined(separator: ":") }
    return words[..<best.lowerBound].joined(separator: ":") + "::" + words[best.upperBound...].joined(separator: ":")
  }
}

private func parseV4(_ text: String) -> UInt32? {
  let parts = text.fields(UInt8(ascii: "."))
  guard parts.count == 4 else { return nil }
  var result: UInt32 = 0
  for part in parts {
    // A leading zero is octal to some readers and decimal to others.
    guard let number = decimal(part, as: UInt8.self), part == String(number) else { return nil }
    result = result << 8 | UInt32(number)
  }
  return result
}

private func parseV6(_ text: String) -> UInt128? {
  guard text.utf8.count <= 45 else { return nil }
  var groups: [UInt16] = []
  var gap: Int?
  let parts = text.fields(.colon)
  guard parts.count >= 3 else { return nil }
  for (index, part) in parts.enumerated() {
    if part.isEmpty {
      // An empty part at an end belongs to the "::" beside it.
      if index == 0 {
        guard parts[1].isEmpty else { return nil }
      } else if index == parts.count - 1 {
        guard gap == groups.count, parts[index - 1].isEmpty else { return nil }
      } else {
        guard gap == nil else { return nil }
        gap = groups.count
      }
    } else if index == parts.count - 1, let tail = parseV4(part) {
      groups += [UInt16(truncatingIfNeeded: tail >> 16), UInt16(truncatingIfNeeded: tail)]
    } else {
      guard part.utf8.count <= 4, part.utf8.allSatisfy({ $0.hexValue != nil }), let group = UInt16(part, radix: 16)
      else { return nil }
      groups.append(group)
    }
  }
  if let gap {
    guard groups.count <= 7 else { return nil }
    groups.insert(contentsOf: Array(repeating: 0, count: 8 - groups.count), at: gap)
  }
  guard groups.count == 8 else { return nil }
  return groups.reduce(0) { $0 << 16 | UInt128($1) }
}

/// The Ethernet address of one interface.
public struct MACAddress: SpecValue, Hashable {
  /// Six bytes in the order in which they are printed.
  public let bytes: [UInt8]

  /// Takes six pairs of hexadecimal digits between colons.
  ///
  /// - Parameter text: the address.
  /// - Throws: `SpecError` for another form, all zero, and addresses of groups.
  public init(_ text: String) throws(SpecError) {
    var found: [UInt8] = []
    for part in text.fields(.colon) where found.count < 7 {
      let digits = part.utf8.compactMap(\.hexValue)
      guard digits.count == 2, part.utf8.count == 2, let high = digits.first, let low = digits.last else {
        throw SpecError("MAC address", text, "write six pairs of hexadecimal digits such as 02:00:00:00:00:01")
      }
      found.append(high << 4 | low)
    }
    guard found.count == 6, let first = found.first else {
      throw SpecError("MAC address", text, "write six pairs of hexadecimal digits such as 02:00:00:00:00:01")
    }
    guard first & 1 == 0, found.contains(where: { $0 != 0 }) else {
      throw SpecError("MAC address", text, "it must be neither zero nor a group's: the first byte is even")
    }
    bytes = found
  }

  /// Lower-case pairs between colons.
  public var description: String { bytes.map(hex).joined(separator: ":") }
}
