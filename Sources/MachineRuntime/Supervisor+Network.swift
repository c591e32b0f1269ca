import Linux
import MachinePlan
import MachineSpec
import Network
import Varlink

/// What connects the machine with the world: made with the host's side of it, started with each run of the machine.
extension Supervisor {
  /// Takes what of the host's the plan asks for; what cannot be had is refused before anything of the machine runs.
  func prepareNetwork(_ plan: NetworkPlan) throws(Failure) {
    let context = NetworkContext(
      loop: loop, workplace: store.runtimeFolder(of: name),
      program: { [unowned self] () throws(Failure) in try carrierProgram() },
      tell: { [unowned self] line in
        log.warning("\(name): network: \(line)")
        tell(event: "network", details: ["message": .string(line)])
      },
      noteFilter: { [unowned self] table, undo throws(Failure) in
        state?.filter = table
        try saveState()
        self.undo.push(undo)
      },
      fail: { [unowned self] failure in
        // Not from within what failed.
        failing = try? loop.addTimer(after: 1) { [unowned self] in
          if host != nil { _ = finish(failure) }
        }
      })
    network = try networkBackend(for: plan, in: context)
  }

  /// Beside the boot: what carries the traffic is up long before a service of the machine's asks for it.
  func startNetwork(leader: Int32, connections: Descriptor?) throws(Failure) {
    guard let network, let host else { return }
    // Ends with the machine's group, as all that is below it.
    let guarded = try host.scope.group.child("network")
    try network.start(
      for: NetworkRun(
        leader: leader, userNamespace: host.userNamespace.descriptor, group: host.scope.supervisor, guarded: guarded,
        connections: connections))
  }

  /// The ports, asked for and changed while the machine runs.
  func addNetworkMethods(
    _ method: (String, @escaping (VarlinkCall, VarlinkResponder) throws -> Void) -> Void
  ) {
    func port(_ call: VarlinkCall) throws(Failure) -> PublishedPort {
      do {
        return try PublishedPort(call.parameters["port"]?.stringValue ?? "")
      } catch {
        throw Failure(line: error.description, kind: .usage)
      }
    }
    func answer(_ responder: VarlinkResponder, _ network: any NetworkBackend) {
      responder.finish(["ports": JSON(network.ports.map(\.description))])
    }
    method("ListPorts") { [unowned self] _, responder in answer(responder, try theNetwork()) }
    method("AddPort") { [unowned self] call, responder in
      let network = try theNetwork()
      try network.publish(try port(call))
      answer(responder, network)
    }
    method("RemovePort") { [unowned self] call, responder in
      let network = try theNetwork()
      try network.withdraw(try port(call))
      answer(responder, network)
    }
  }

  private func theNetwork() throws(Failure) -> any NetworkBackend {
    guard let network else { throw Failure("use the network of", name.description, "it is \(phase.name)") }
    return network
  }

  private func carrierProgram() throws(Failure) -> Descriptor {
    if let sealedStage { return sealedStage }
    return try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
  }
}
