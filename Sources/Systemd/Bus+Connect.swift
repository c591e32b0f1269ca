import CLinux
import CSystemd
import Glibc

extension Bus {
  /// Connects to a socket of the host's. Whether somebody answers there shows with the first call.
  ///
  /// - Parameters:
  ///   - path: a path that no machine controls.
  ///   - kind: what is at the other end.
  ///   - loop: what drives the connection.
  /// - Throws: `BusError` when nobody listens, or so many wait already that connecting would take its time.
  public convenience init(connectingTo path: String, kind: Kind, on loop: EventLoop) throws(BusError) {
    let socket = clinux_unix_socket(false)
    guard socket >= 0 else { throw BusError("socket", errno: Glibc.errno) }
    guard clinux_set_nonblocking(socket, true) == 0, clinux_unix_connect(socket, path) == 0 else {
      let number = Glibc.errno
      Glibc.close(socket)
      throw BusError("connect", errno: number)
    }
    try self.init(descriptor: socket, kind: kind, on: loop)
  }

  /// The name that the bus daemon gave to this connection; nil without a daemon, or before it has answered once.
  ///
  /// The corresponding C function is `sd_bus_get_unique_name`.
  public var uniqueName: String? {
    // Before the daemon has answered the question would be waited for.
    guard kind == .daemon, let bus = pointer, sd_bus_is_ready(bus) > 0 else { return nil }
    var name: UnsafePointer<CChar>?
    guard sd_bus_get_unique_name(bus, &name) >= 0 else { return nil }
    return boundedString(name)
  }
}
