import Linux
import MachineSpec
import MachineStore
import Varlink

/// The ports of the host that lead into machines.
extension MachineManager {
  /// The ports of a running machine, or those that a stopped one would have.
  public func ports(of name: MachineName) throws(Failure) -> [PublishedPort] {
    guard try store.isRunning(name) else { return try store.spec(of: name).0.network.ports }
    return try parsed(try call(name, "ListPorts", [:], to: "list the ports of"))
  }

  /// Publishes a port of a running machine, until it stops.
  ///
  /// - Returns: the ports that it has then.
  @discardableResult
  public func addPort(_ port: PublishedPort, to name: MachineName) throws(Failure) -> [PublishedPort] {
    try parsed(try call(name, "AddPort", ["port": .string(port.description)], to: "publish a port of"))
  }

  /// Takes a port of a running machine back.
  ///
  /// - Returns: the ports that it has then.
  @discardableResult
  public func removePort(_ port: PublishedPort, of name: MachineName) throws(Failure) -> [PublishedPort] {
    try parsed(try call(name, "RemovePort", ["port": .string(port.description)], to: "withdraw a port of"))
  }

  private func parsed(_ reply: JSON) throws(Failure) -> [PublishedPort] {
    let texts = reply["ports"]?.arrayValue?.compactMap(\.stringValue) ?? []
    do {
      return try texts.map { (text) throws(SpecError) in try PublishedPort(text) }
    } catch {
      throw Failure("read", "the ports", error.description)
    }
  }
}
