import Linux
import MachinePlan
import StageProtocol
import Varlink

extension Supervisor {
  /// An operation's line; capabilities by name, which the stage's own messages know by number only.
  private static func words(_ operation: SetupOperation) -> String {
    guard case .confine(let dropped) = operation else { return operation.description }
    return "drop the capabilities \(dropped.map { Capabilities.name(of: $0) ?? "\($0)" }.joined(separator: ", "))"
  }

  /// The plan that a start would carry out, as lists of lines.
  public func planJSON(overrides: [String]) throws -> JSON {
    let (plan, warnings) = try makePlan(overrides: overrides)
    return [
      "warnings": JSON(warnings), "host": JSON(plan.hostSteps.flatMap(\.lines)),
      "network": JSON(plan.network.lines), "stage": JSON(plan.stage.operations.map(Self.words)),
      "init": JSON(plan.stage.candidates), "arguments": JSON(plan.stage.arguments),
      "environment": JSON(plan.stage.environment),
    ]
  }
}

extension Supervisor {
  /// What is known of this host.
  ///
  /// - Parameter folder: a folder on the file system that holds machines.
  public static func probeJSON(folder: String) throws(Failure) -> JSON {
    let facts = try HostFacts.probe(for: try Descriptor.open(folder, .directory))
    return [
      "kernel": .string(facts.kernelRelease), "privilege": .string(facts.privilege.rawValue),
      "cgroupLayout": .string(facts.cgroup.layout.rawValue), "cgroupMount": .string(facts.cgroup.mount),
      "cgroup": .string(facts.cgroup.own), "cgroupIsOurs": .bool(facts.cgroup.isOurs),
      "cgroupIsReadOnly": .bool(facts.cgroup.isReadOnly), "coversKernel": .bool(facts.coversKernel),
      "nsdelegate": .bool(facts.cgroup.delegatesToNamespaces),
      "controllers": JSON(facts.cgroup.controllers), "mapsIDs": .bool(facts.canMapIDs),
    ]
  }
}
