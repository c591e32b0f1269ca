import CLinux
import Glibc
import Linux

/// The host's interfaces that connections to some addresses were found to leave by, as both network namespaces' routes
/// have it: asking them is a tenth of what a connection takes.
///
/// Only what is to be handed over is remembered. Why it is no older than an answer that was just given:
///
/// - The kernel puts a notice of a changed link, address, route, rule or next hop into the queues of `notices` before the
///   call that made the change returns. Those are looked at after a connection was asked for and before anything is
///   looked up here. So of a change that was complete before the program called connect, such as an address that became
///   the host's own, nothing is left here; what changes later than that may as well change after the kernel's answer.
/// - A notice that found no room is an error on that socket, and counts as a notice.
/// - An answer is remembered that was given after the queues were looked at. A change meanwhile is a notice the next time.
/// - What the kernel does without a word, such as that a router of IPv6 has not been heard for too long, or another of
///   several next hops is taken, counts after a second. It changes the way, and not whose an address is; and no
///   connection goes where the kernel finds no way by the interface.
struct KnownRoutes: ~Copyable {
  private struct Known {
    var address: (UInt64, UInt64) = (0, 0)
    var interface: UInt32 = 0
    var second = 0
  }

  private static let count = 256
  private let notices: (inside: Descriptor, outside: Descriptor)
  private let known: UnsafeMutablePointer<Known>

  /// - Parameter notices: of `clinux_route_notices`, one in each network namespace.
  init(notices: (inside: Descriptor, outside: Descriptor)) {
    self.notices = notices
    known = .allocate(capacity: Self.count)
    known.initialize(repeating: Known(), count: Self.count)
  }

  deinit { known.deallocate() }

  /// Forgets all if anything may have changed. To be called for each connection, before anything else is.
  func refresh() {
    guard clinux_route_changed(notices.inside.raw, notices.outside.raw) else { return }
    known.update(repeating: Known(), count: Self.count)
  }

  /// - Parameter address: 4 or 16 bytes.
  /// - Returns: the number of the host's interface; nil when the routes are to be asked.
  func interface(to address: UnsafeRawBufferPointer) -> UInt32? {
    let key = Self.key(address), found = known[Self.place(key)]
    return found.interface != 0 && found.address == key && found.second == Self.now() ? found.interface : nil
  }

  func remember(_ interface: UInt32, to address: UnsafeRawBufferPointer) {
    let key = Self.key(address)
    known[Self.place(key)] = Known(address: key, interface: interface, second: Self.now())
  }

  /// An address of IPv4 in the form of one of IPv6: it means the same.
  private static func key(_ address: UnsafeRawBufferPointer) -> (UInt64, UInt64) {
    guard address.count == 16 else {
      return (0, 0xffff << 32 | UInt64(address.loadUnaligned(as: UInt32.self).bigEndian))
    }
    return (
      address.loadUnaligned(as: UInt64.self).bigEndian,
      address.loadUnaligned(fromByteOffset: 8, as: UInt64.self).bigEndian
    )
  }

  private static func place(_ key: (UInt64, UInt64)) -> Int {
    let mixed = (key.0 ^ key.1) &* 0x9e37_79b9_7f4a_7c15
    return Int(mixed >> 56)
  }

  private static func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
    return time.tv_sec
  }
}
