import Linux
import MachinePlan
import MachineSpec
import Varlink

/// `Mode=host-insecure`: the machine is in the host's network namespace, and there is nothing to be done for it.
final class HostNetwork: NetworkBackend {
  let description = "host-insecure (the host's own: its loopback and abstract sockets are open to the machine)"
  let ports: [PublishedPort] = []
  let unitSockets: [Descriptor] = []

  var state: JSON {
    [
      "mode": .string(NetworkMode.hostInsecure.rawValue),
      "exposed": JSON(["loopback", "addresses", "abstract-sockets"]),
    ]
  }

  func start(for run: NetworkRun) throws(Failure) {}

  func stop() {}

  func publish(_ port: PublishedPort) throws(Failure) {
    throw Failure(
      "publish", port.description, "the machine's programs listen on the host's own ports",
      advice: "have the service listen on port \(port.host)", kind: .usage)
  }

  func withdraw(_ port: PublishedPort) throws(Failure) {
    throw Failure("withdraw", port.description, "it is not published", kind: .notFound)
  }
}
