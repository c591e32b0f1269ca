import CLinux
import Glibc
import Linux
import MachineSpec

/// Sockets of the host that a machine's ports are published at.
enum HostSocket {
  /// Connections that may wait to be taken: as many as the kernel allows by default.
  private static let backlog: Int32 = 4096

  /// A listening or bound socket.
  ///
  /// - Parameters:
  ///   - forBoth: what is accepted may be given to whoever listens by IPv6, and to whoever does by IPv4: the socket is one
  ///     of IPv6 for an address of IPv4, too, because only such a one can be made into the other.
  ///   - beforeListening: what every connection that is accepted is to have as well.
  /// - Throws: `Failure` that names the port, of kind `refused`.
  static func open(
    _ transport: Transport, _ bind: IPAddress?, _ port: UInt16, forBoth: Bool = false,
    beforeListening: (Descriptor) throws(Failure) -> Void = { (_) throws(Failure) in }
  ) throws(Failure) -> Descriptor {
    // Every address: one socket of IPv6 takes both, where the host has it.
    guard let bind else {
      do {
        return try open(transport, .v6(0), port, both: true, beforeListening)
      } catch {
        guard error.errno == .addressFamilyNotSupported || error.errno == .addressNotAvailable else { throw error }
        return try open(transport, .v4(0), port, both: false, beforeListening)
      }
    }
    if forBoth, case .v4(let value) = bind {
      // A host without IPv6 has those that it has.
      do {
        return try open(
          transport, .v6(0xffff << 32 | UInt128(value)), port, both: true, place: "\(transport):\(bind):\(port)",
          beforeListening)
      } catch {
        guard error.errno == .addressFamilyNotSupported else { throw error }
      }
    }
    return try open(transport, bind, port, both: false, beforeListening)
  }

  private static func open(
    _ transport: Transport, _ address: IPAddress, _ port: UInt16, both: Bool, place: String? = nil,
    _ beforeListening: (Descriptor) throws(Failure) -> Void
  ) throws(Failure) -> Descriptor {
    let bytes = address.bytes
    let place = place ?? (both ? "\(transport):\(port)" : "\(transport):\(written(address)):\(port)")
    func step(_ result: Int32) throws(Failure) -> Int32 {
      let number = errno
      if result < 0 { throw refusal(place, port, number) }
      return result
    }
    let socket = Descriptor(adopting: try step(clinux_inet_socket(bytes.count, transport == .udp)))
    _ = try step(clinux_inet_bind(socket.raw, bytes, bytes.count, UInt32(port), both))
    if transport == .udp {
      _ = try step(clinux_inet_tell_local(socket.raw))
    } else {
      try beforeListening(socket)
      _ = try step(clinux_listen(socket.raw, backlog))
    }
    return socket
  }

  private static func written(_ address: IPAddress) -> String {
    if case .v6 = address { return "[\(address)]" }
    return "\(address)"
  }

  private static func refusal(_ place: String, _ port: UInt16, _ number: Int32) -> Failure {
    var failure = Failure("publish", place, errno: .init(rawValue: number), kind: .refused)
    switch number {
    case EADDRINUSE:
      failure.reason = "the port is taken on this host"
      failure.advice = "'ss -lnp' shows by whom; take another one"
    case EACCES:
      failure.reason = "ports below \(lowestFreePort) are for root on this host"
      failure.advice = "take a higher one, or sysctl -w net.ipv4.ip_unprivileged_port_start=\(port)"
    case EADDRNOTAVAIL: failure.reason = "this host has no such address"
    default: break
    }
    return failure
  }

  private static var lowestFreePort: String {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    guard let bytes = try? Descriptor.open(path).readHead(8, subject: path) else { return "1024" }
    return String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self)
  }
}
