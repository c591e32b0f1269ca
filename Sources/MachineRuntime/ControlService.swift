import Glibc
import Linux
import MachineStore
import Systemd
import Varlink

/// The methods behind the control socket.
extension Supervisor {
  func controlService() -> VarlinkService {
    let service = VarlinkService(
      vendor: "Henge", product: "henge-supervisor", version: hengeVersion, url: "")
    service.add(.machine)
    func method(_ name: String, _ body: @escaping (VarlinkCall, VarlinkResponder) throws -> Void) {
      service.method("io.henge.Machine.\(name)") { call, responder in
        do {
          try body(call, responder)
        } catch let failure as Failure {
          throw VarlinkError(failure)
        }
      }
    }
    method("Start") { [unowned self] call, responder in
      let overrides = call.parameters["overrides"]?.arrayValue?.compactMap(\.stringValue) ?? []
      let goal = try Observer.Goal(call.parameters["goal"]?.stringValue ?? "running")
      wantsProgress = call.parameters["progress"]?.boolValue ?? false
      observe(responder, until: goal)
      do {
        try start(overrides: overrides)
      } catch {
        // Everything is taken back; there is nothing left to supervise.
        control?.close()
        throw error
      }
      if let warnings = plan?.warnings, !warnings.isEmpty { responder.send(["warnings": JSON(warnings)]) }
    }
    method("Wait") { [unowned self] call, responder in
      observe(responder, until: try Observer.Goal(call.parameters["goal"]?.stringValue ?? "running"))
      tellObservers()
    }
    method("PowerOff") { [unowned self] _, responder in
      observe(responder, until: .stopped)
      stop(.poweroff)
    }
    method("Terminate") { [unowned self] _, responder in
      observe(responder, until: .stopped)
      stop(.terminate)
    }
    method("Reboot") { [unowned self] _, responder in
      guard case .up = phase else {
        throw Failure("reboot", name.description, "it is \(phase.name)", advice: "'hengectl wait \(name)' waits for it")
      }
      stop(.reboot)
      observe(responder, until: .running)
    }
    method("Kill") { [unowned self] call, responder in
      try kill(whom: call.parameters["whom"]?.stringValue ?? "", signal: call.parameters["signal"]?.intValue ?? 0)
      responder.finish()
    }
    method("Freeze") { [unowned self] _, responder in try freeze(responder) }
    method("Thaw") { [unowned self] _, responder in try thaw(responder) }
    method("WaitUnit") { [unowned self] call, responder in
      try wait(forUnit: call.parameters["unit"]?.stringValue ?? "", responder)
    }
    method("GetState") { [unowned self] _, responder in responder.finish(["state": stateJSON]) }
    method("SetLimits") { [unowned self] call, responder in try setLimits(call, responder) }
    addNetworkMethods(method)
    method("ListUnits") { [unowned self] _, responder in try listUnits(responder) }
    addCopyMethods(method)
    method("Execute") { [unowned self] call, responder in try execute(call, responder) }
    method("Login") { [unowned self] call, responder in try login(call, responder) }
    addMountMethods(method)
    addConsoleMethods(method)
    return service
  }

  private func kill(whom: String, signal: Int64) throws {
    guard (1...64).contains(signal), let number = Int32(exactly: signal) else {
      throw Failure("signal", name.description, "\(signal) is not a signal", kind: .usage)
    }
    guard let leader, let host else { throw Failure("signal", name.description, "it is \(phase.name)") }
    switch whom {
    case "leader": try leader.process.signal(number)
    case "all" where number == SIGKILL: try host.scope.payload.kill()
    case "all":
      try host.scope.payload.signal(number)
    default: throw Failure("signal", whom, "it is neither 'leader' nor 'all'", kind: .usage)
    }
  }

  private func listUnits(_ responder: VarlinkResponder) throws {
    try requireAnswering(to: "list the units of")
    guard let guest else { throw Failure("list the units of", name.description, "its systemd cannot be reached") }
    guest.open {
      guest.units { result in
        switch result {
        case .success(let units):
          responder.finish([
            "units": .array(
              units.map {
                [
                  "name": .string($0.name), "description": .string($0.description), "load": .string($0.loadState),
                  "active": .string($0.activeState), "sub": .string($0.subState),
                ]
              })
          ])
        case .failure(let failure): responder.fail(VarlinkError(failure))
        }
      }
    }
  }

  var stateJSON: JSON {
    var failed: [FailedUnit] = []
    if case .up(let units) = phase { failed = units }
    return [
      "name": .string(name.description), "uuid": .string(record?.uuid.description ?? ""),
      "state": .string(stateName), "leader": leader.map { JSON($0.id) } ?? .null, "supervisor": JSON(getpid()),
      "started": JSON(state?.started ?? 0), "restarts": JSON(restarts.count), "cgroup": JSON(state?.cgroup),
      "uidBase": JSON(record?.range.base ?? 0), "uidCount": JSON(record?.range.count ?? 0),
      "status": .string(statusText), "bus": JSON(guest?.kind),
      "network": JSON(network?.description), "networkState": network?.state ?? .null,
      "binds": .array(
        liveMounts.map { ["path": .string($0.path), "source": .string($0.source), "readOnly": .bool($0.isReadOnly)] }),
      "failedUnits": .array(
        failed.map {
          ["name": .string($0.name), "description": .string($0.description), "lines": JSON($0.lines)]
        }),
      "moments": .array(moments.map { ["name": .string($0.name), "at": JSON($0.at)] }),
    ]
  }
}

extension VarlinkError {
  /// A failure for the operator at the other end.
  init(_ failure: Failure) {
    self.init(
      "io.henge.Machine.Failed",
      ["message": .string(failure.description), "code": JSON(failure.kind.rawValue)])
  }
}
