import ArgumentParser
import Linux
import MachineManager
import MachineSpec
import MachineStore
import Varlink

struct Port: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "port",
    abstract: "List, publish and withdraw ports of the host that lead into a running machine.",
    discussion: """
      A port is [tcp|udp:][BIND:]HOST:GUEST; an IPv6 address to bind to stands in [], and both ports may be ranges \
      FIRST-LAST. What is published here lasts until the machine stops; Port= in its spec is for every start.
      """)

  enum Action: String, ExpressibleByArgument, CaseIterable {
    case list, add, remove
  }

  @Argument(help: "The machine.") var name: String
  @Argument(help: "What to do.") var action = Action.list
  @Argument(help: "The port, to add or remove.") var port: String?
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    if action != .list && port == nil { throw ValidationError("'\(action.rawValue)' takes a port") }
    if action == .list && port != nil { throw ValidationError("'list' takes no port") }
  }

  func run() throws {
    let manager = try manager()
    let name = try MachineName(name)
    let ports: [PublishedPort]
    switch (action, try port.map { try PublishedPort($0) }) {
    case (.add, let port?): ports = try manager.addPort(port, to: name)
    case (.remove, let port?): ports = try manager.removePort(port, of: name)
    default: ports = try manager.ports(of: name)
    }
    if json {
      print(JSON.array(ports.map(\.json)).pretty)
    } else if action == .list {
      var table = Table("PROTOCOL", "ADDRESS", "HOST", "MACHINE", "SOCKET UNIT")
      for port in ports {
        table.add(
          port.transport.rawValue, port.bind?.description ?? "all", port.host.description, port.guest.description,
          port.socketUnit ?? "-")
      }
      table.show(empty: "no ports; 'hengectl port \(name) add 8080:80' publishes one")
    }
  }
}

extension PublishedPort {
  fileprivate var json: JSON {
    [
      "port": .string(description), "protocol": .string(transport.rawValue), "address": JSON(bind?.description),
      "host": .string(host.description), "machine": .string(guest.description), "socketUnit": JSON(socketUnit),
    ]
  }
}
