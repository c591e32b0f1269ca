import Glibc
import Linux
import Systemd
import Varlink

/// Waits until a control group is frozen, or runs again: the kernel tells it by `POLLPRI` on `cgroup.events`.
final class FreezeWatch {
  /// What came of it.
  enum Outcome {
    case there
    case late
    /// It is stopped, or thawed to be.
    case cancelled
  }

  private let events: Descriptor
  private let wanted: Bool
  private var sources: [EventLoop.Source] = []
  private var completion: ((Outcome) -> Void)?

  /// - Parameters:
  ///   - timeout: in microseconds.
  ///   - completion: called once.
  init(
    _ group: CgroupDirectory, frozen: Bool, on loop: EventLoop, timeout: UInt64,
    completion: @escaping (Outcome) -> Void
  ) throws {
    events = try group.descriptor.open("cgroup.events", .read, lookup: .beneath)
    wanted = frozen
    self.completion = completion
    // EPOLLPRI; reading the file arms it for the next change.
    sources.append(
      try loop.addIO(events.raw, IOEvents(rawValue: 0x2)) { [unowned self] _ in if isThere { end(.there) } })
    sources.append(try loop.addTimer(after: timeout) { [unowned self] in end(.late) })
    sources.append(try loop.addDefer { [unowned self] in if isThere { end(.there) } })
  }

  private var isThere: Bool {
    (try? CgroupEvents(rereading: events))?.isFrozen == wanted
  }

  func cancel() { end(.cancelled) }

  private func end(_ result: Outcome) {
    guard let completion else { return }
    self.completion = nil
    for source in sources { source.cancel() }
    completion(result)
  }
}

/// Stopping every process of the machine where it stands, and letting it go on.
extension Supervisor {
  /// What the machine is doing, in one word.
  var stateName: String {
    if isFrozen, case .up = phase { return "frozen" }
    return phase.name
  }

  /// For whatever asks the machine's systemd: one that is not up, or frozen, cannot answer.
  ///
  /// - Throws: `Failure` that says so.
  func requireAnswering(to purpose: String) throws(Failure) {
    guard case .up = phase else { throw Failure(purpose, name.description, "it is \(phase.name)") }
    if isFrozen { throw Failure(purpose, name.description, "it is frozen", advice: "hengectl thaw \(name)") }
  }

  func freeze(_ responder: VarlinkResponder) throws {
    guard case .up = phase, leader != nil else {
      throw Failure("freeze", name.description, "it is \(phase.name)", advice: "'hengectl wait \(name)' waits for it")
    }
    try change(to: true, responder)
  }

  func thaw(_ responder: VarlinkResponder) throws {
    guard case .up = phase, leader != nil else { throw Failure("thaw", name.description, "it is \(phase.name)") }
    try change(to: false, responder)
  }

  private func change(to frozen: Bool, _ responder: VarlinkResponder) throws {
    let verb = frozen ? "freeze" : "thaw"
    guard freezing == nil else { throw Failure(verb, name.description, "another command does one or the other now") }
    guard let host, isFrozen != frozen else { return responder.finish(["state": stateJSON]) }
    let payload = host.scope.payload
    freezing = try FreezeWatch(payload, frozen: frozen, on: loop, timeout: 10_000_000) { [weak self] outcome in
      guard let self else { return }
      freezing = nil
      switch outcome {
      case .there: break
      case .cancelled: return responder.fail(VarlinkError(Failure(verb, name.description, "it is being stopped")))
      case .late:
        if frozen { try? payload.write("cgroup.freeze", "0") }
        let failure = Failure(verb, name.description, "its processes did not follow within 10 s", kind: .timedOut)
        return responder.fail(VarlinkError(failure))
      }
      isFrozen = frozen
      tell(event: frozen ? "frozen" : "thawed")
      log.info("\(name): \(stateName)")
      tellObservers()
      resumeUnitWaits()
      responder.finish(["state": stateJSON])
    }
    do {
      try payload.write("cgroup.freeze", frozen ? "1" : "0")
    } catch {
      freezing = nil
      throw error
    }
  }

  /// Before the machine is told to stop: nothing in a frozen one hears anything.
  func thawForStop() {
    guard isFrozen || freezing != nil else { return }
    freezing?.cancel()
    isFrozen = false
    try? host?.scope.payload.write("cgroup.freeze", "0")
    tell(event: "thawed")
  }
}
