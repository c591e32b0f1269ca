import Linux
import MachineSpec
import MachineStore
import StageProtocol
import Varlink

/// Binds that come and go while the machine runs.
extension Supervisor {
  func addMountMethods(_ method: (String, @escaping (VarlinkCall, VarlinkResponder) throws -> Void) -> Void) {
    method("Bind") { [unowned self] call, responder in try bind(call, responder) }
    method("Unbind") { [unowned self] call, responder in try unbind(call, responder) }
  }

  private func target(_ call: VarlinkCall, for purpose: String) throws -> (path: String, leader: Pidfd) {
    let text = call.parameters["path"]?.stringValue ?? ""
    let path: String
    do {
      path = try AbsolutePath(text).description
    } catch {
      throw Failure(purpose, text, error.reason, kind: .usage)
    }
    guard path != "/" else { throw Failure(purpose, path, "the machine's root stays as it is", kind: .usage) }
    guard let leader, host != nil else { throw Failure(purpose, name.description, "it is \(phase.name)") }
    return (path, leader.process)
  }

  private func bind(_ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    let (path, leader) = try target(call, for: "bind")
    guard let tree = call.descriptors.first, call.descriptors.count == 1, let host else {
      throw Failure("bind", path, "one detached mount has to come along", kind: .usage)
    }
    let readOnly = call.parameters["readOnly"]?.boolValue ?? false
    let source = printable(call.parameters["source"]?.stringValue ?? "", limit: 4096)
    let request = MountRequest.bind(
      path: path, scratch: store.runtimeFolder(of: name), readOnly: readOnly,
      mapped: call.parameters["mapped"]?.boolValue ?? true, makeTarget: call.parameters["mkdir"]?.boolValue ?? false)
    _ = try MountChange(
      request, tree: (tree, host.userNamespace), leader: leader, program: try stageProgram(), on: loop
    ) { [weak self] result in
      switch result {
      case .success(let id):
        self?.liveMounts.append(LiveMount(path: path, source: source, isReadOnly: readOnly, id: id))
        responder.finish()
      case .failure(let failure): responder.fail(VarlinkError(failure))
      }
    }
  }

  private func unbind(_ call: VarlinkCall, _ responder: VarlinkResponder) throws {
    let (path, leader) = try target(call, for: "unbind")
    // The one on top is the one in sight.
    guard let mount = liveMounts.last(where: { $0.path == path }) else {
      let known = liveMounts.isEmpty ? "nothing is" : "\(liveMounts.map(\.path).joined(separator: ", ")) is"
      throw Failure("unbind", path, "it was not bound while the machine runs; \(known)")
    }
    let request = MountRequest.unbind(
      path: path, mount: mount.id, lazy: call.parameters["lazy"]?.boolValue ?? false)
    _ = try MountChange(request, tree: nil, leader: leader, program: try stageProgram(), on: loop) {
      [weak self] result in
      switch result {
      case .success:
        self?.liveMounts.removeAll { $0.id == mount.id }
        responder.finish()
      case .failure(let failure):
        if failure.errno == .invalidArgument { self?.liveMounts.removeAll { $0.id == mount.id } }
        responder.fail(VarlinkError(failure))
      }
    }
  }
}
