// Values that are each allowed but not together. Each finding points at the later of the two.

extension SpecParser {
  mutating func checkConflicts() {
    checkRoot()
    checkMounts()
    checkCapabilities()
    checkMemory()
    checkPorts()
    checkNetworkMode()
  }

  private mutating func checkRoot() {
    guard spec.files.image != nil, spec.files.directory != nil else { return }
    log.add(
      .error, origin("Directory"),
      "Directory= cannot stand beside Image= (\(origin("Image").text)): unset one with an empty value")
  }

  private mutating func checkMounts() {
    var seen: [AbsolutePath: (key: String, origin: Origin)] = [:]
    let lists: [(String, [AbsolutePath])] = [
      ("Bind", spec.files.bind.map(\.destination)), ("BindReadOnly", spec.files.bindReadOnly.map(\.destination)),
      ("TemporaryFileSystem", spec.files.temporaryFileSystems.map(\.path)),
      ("Unlayered", spec.files.unlayered.map(\.path)),
    ]
    for (key, destinations) in lists {
      for (index, path) in destinations.enumerated() {
        let place = origin(key, index)
        if let other = seen[path] {
          log.add(
            .error, place,
            "\(key)= mounts on \"\(escaped(path.description.utf8))\", and so does \(other.key)= at \(other.origin.text)"
          )
        } else {
          seen[path] = (key, place)
        }
      }
    }
  }

  private mutating func checkCapabilities() {
    let (kept, dropped) = (spec.exec.capability, spec.exec.dropCapability)
    // "all but these" is the usual way to write one of the two.
    guard kept != .all, dropped != .all, !kept.isDisjoint(with: dropped) else { return }
    log.add(
      .warning, origin("DropCapability"),
      "DropCapability= takes away what Capability= gives: \(kept.intersection(dropped))")
  }

  private mutating func checkMemory() {
    let limits = spec.resources
    let pairs: [(String, MemoryLimit?, String, MemoryLimit?)] = [
      ("MemoryHigh", limits.memoryHigh, "MemoryMax", limits.memoryMax),
      ("MemoryLow", limits.memoryLow, "MemoryMax", limits.memoryMax),
      ("MemoryMin", limits.memoryMin, "MemoryMax", limits.memoryMax),
    ]
    for case (let low, .bytes(let small)?, let high, .bytes(let large)?) in pairs where small > large {
      log.add(.warning, origin(low), "\(low)= is above \(high)= (\(origin(high).text)) and has no effect")
    }
  }

  private mutating func checkPorts() {
    let ports = spec.network.ports
    for (index, port) in ports.enumerated() {
      guard let other = ports[..<index].firstIndex(where: port.collides) else { continue }
      log.add(
        .error, origin("Port", index),
        "Port= publishes \(port.transport) \(port.host) of the host, and so does \(origin("Port", other).text)")
    }
  }

  private mutating func checkNetworkMode() {
    guard let mode = spec.network.mode else { return }
    refuse(forbidden(with: mode), with: mode)
    var pointless: [String] = []
    switch mode {
    case .none: pointless = ["Port", "HandOff", "HostPort", "DNS", "MAC", "Forwarder"]
    case .hostInsecure: pointless = ["MAC", "Forwarder"]
    case .sockets: pointless = ["MAC", "Forwarder"]
    case .veth: pointless = ["Forwarder"]
    case .user: break
    }
    for key in pointless where origins[key] != nil {
      log.add(.warning, origin(key), "\(key)= has no effect with Mode=\(mode)")
    }
  }

  /// What a mode cannot give, and an operator would miss or wrongly rely on.
  private func forbidden(with mode: NetworkMode) -> [(key: String, reason: String)] {
    let network = spec.network
    switch mode {
    case .hostInsecure:
      return [
        network.ports.isEmpty ? nil : ("Port", "the machine's programs listen on the host's own ports"),
        network.hostPorts.isEmpty ? nil : ("HostPort", "all of the host's loopback is the machine's"),
        network.handOff ? ("HandOff", "its connections are the host's already") : nil,
      ].compactMap { $0 }
    case .veth:
      return network.handOff ? [("HandOff", "its packets are as fast, and go by the host's packet filter")] : []
    case .sockets:
      guard origins["HandOff"] != nil, !network.handOff else { return [] }
      return [("HandOff", "what is not handed off there has no way out")]
    default: return []
    }
  }

  private mutating func refuse(_ keys: [(key: String, reason: String)], with mode: NetworkMode) {
    for (key, reason) in keys {
      log.add(.error, origin(key), "\(key)= cannot stand beside Mode=\(mode): \(reason)")
    }
  }
}

extension Origin {
  /// `FILE:LINE`.
  var text: String { "\(escaped(file.utf8)):\(line)" }
}
