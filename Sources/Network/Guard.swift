import CLinux
import Glibc
import Linux
import MachinePlan
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
    // Often one on its loopback.
    let path = "/etc/resolv.conf"
    let text = (try? Descriptor.open(path).readAll(limit: 65536, subject: path)) ?? []
    let servers = NetworkFacts.nameServers(in: text)
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
}

/// The guard of one machine, and whether there is one.
final class Guardian {
  private let tell: (String) -> Void
  private(set) var isSet = false
  /// Why there is none; nil where there is one, or where none was set yet.
  private(set) var lacking: String?

  init(_ tell: @escaping (String) -> Void) {
    self.tell = tell
  }

  /// The group, and with it the guard, stays while the machine boots anew.
  func set(over group: CgroupDirectory) {
    guard !isSet else { return }
    do {
      try Guard.set(over: group)
      isSet = true
      lacking = nil
    } catch {
      lacking = error.reason
      tell("\(error.description): the host's own addresses can be reached from the machine")
    }
  }
}
