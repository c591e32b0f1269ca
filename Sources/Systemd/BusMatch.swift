import CSystemd
import Glibc

/// A wish for signals; it ends with `cancel`, or when the last reference to it goes.
public final class BusMatch {
  private var slot: OpaquePointer?
  private var handler: ((Message) -> Void)?
  private var onInstalled: ((BusError?) -> Void)?

  fileprivate init(_ handler: @escaping (Message) -> Void, _ onInstalled: @escaping (BusError?) -> Void) {
    self.handler = handler
    self.onInstalled = onInstalled
  }

  deinit { sd_bus_slot_unref(slot) }

  /// Takes no more signals.
  ///
  /// The corresponding C function is `sd_bus_slot_unref`.
  public func cancel() {
    slot = sd_bus_slot_unref(slot)
    handler = nil
    onInstalled = nil
  }

  fileprivate func install(
    on bus: OpaquePointer, _ sender: String?, _ path: String?, _ interface: String?, _ member: String?
  ) -> Int32 {
    sd_bus_match_signal_async(
      bus, &slot, sender, path, interface, member,
      { message, data, _ in
        guard let message, let data else { return 0 }
        let match = Unmanaged<BusMatch>.fromOpaque(data).takeUnretainedValue()
        let handler = match.handler
        handler?(Message(sharing: message))
        return 0
      },
      // Without this one libsystemd would end the whole connection when the daemon refuses.
      { message, data, _ in
        guard let message, let data else { return 0 }
        let match = Unmanaged<BusMatch>.fromOpaque(data).takeUnretainedValue()
        let onInstalled = match.onInstalled
        match.onInstalled = nil
        onInstalled?(BusError(of: message))
        return 0
      }, Unmanaged.passUnretained(self).toOpaque())
  }
}

extension Bus {
  /// Asks for signals. Nil stands for any.
  ///
  /// The corresponding C function is `sd_bus_match_signal_async`. With a daemon, calls that are sent later are answered
  /// after the wish has come into force; on a direct connection it is in force at once, and nothing is sent.
  ///
  /// - Parameters:
  ///   - sender: the bus name of the sender; looked at with a daemon only.
  ///   - path: the object.
  ///   - interface: the interface.
  ///   - member: the signal.
  ///   - onInstalled: with a daemon, called once the wish is in force or was refused.
  ///   - handler: called for each signal.
  public func match(
    sender: String? = nil, path: String? = nil, interface: String? = nil, member: String? = nil,
    onInstalled: @escaping (BusError?) -> Void = { _ in }, _ handler: @escaping (Message) -> Void
  ) throws(BusError) -> BusMatch {
    guard let bus = pointer else { throw BusError("the connection is closed", errno: ENOTCONN) }
    let match = BusMatch(handler, onInstalled)
    // Without a daemon nobody vouches for a sender's name, and only one program can send anyway.
    let sender = kind == .daemon ? sender : nil
    try checkBus(match.install(on: bus, sender, path, interface, member), "sd_bus_match_signal_async")
    return match
  }
}
