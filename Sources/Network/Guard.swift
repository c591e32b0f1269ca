import CLinux
import Glibc
import Linux
import MachineSpec
import StageProtocol

/// What keeps a forwarder from the host's own addresses, from its loopback and from link-local ones, whatever the
/// machine sends and however the forwarder takes it: a program in the kernel that looks at each packet of the
/// forwarder's sockets.
enum Guard {
  /// Sets the guard over a control group, for every socket that its processes make from now on.
  ///
  /// - Throws: `Failure` where this process may not, or the kernel cannot.
  static func set(over group: CgroupDirectory) throws(Failure) {
    let servers = nameServers()
    let four = servers.filter { if case .v4 = $0 { true } else { false } }.prefix(8)
    let six = servers.filter { if case .v6 = $0 { true } else { false } }.prefix(8)
    let closed = ClosedAddresses.prefixes.map { prefix in
      var result = clinux_prefix()
      withUnsafeMutableBytes(of: &result.bytes) { $0.copyBytes(from: prefix.bytes.prefix(16)) }
      (result.size, result.bits) = (UInt8(clamping: prefix.bytes.count), UInt8(clamping: prefix.bits))
      return result
    }
    let number = clinux_guard_make(
      four.flatMap(\.bytes), four.count, six.flatMap(\.bytes), six.count, closed, closed.count)
    let program = Descriptor(adopting: try check(number, "load", "the guard of the forwarder's packets"))
    try check(clinux_guard_attach(group.descriptor.raw, program.raw), "set a guard over", group.path)
  }

  /// Those that the host itself asks: often one on its loopback.
  private static func nameServers() -> [IPAddress] {
    guard let bytes = try? Descriptor.open("/etc/resolv.conf").readAll(limit: 65536, subject: "resolv.conf") else {
      return []
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      guard words.count > 1, words[0] == "nameserver" else { return nil }
      // Without the interface that a link-local address is at.
      return try? IPAddress(String(words[1].prefix { $0 != "%" }))
    }
  }
}
