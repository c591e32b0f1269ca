import Glibc
import Linux
import MachineStore
import Systemd

/// The guest bus: a connection to the machine's own systemd, made from inside the machine and handed out.
final class GuestConnection {
  private let leader: Pidfd
  private let programs: Programs
  private let loop: EventLoop
  private var bus: Bus?
  private(set) var manager: Manager?
  private var joiners: [Joiner] = []
  private var failure: Failure?
  private var isOpening = false
  private var isEarly = false
  private var hasTriedEarly = false
  private var waiting: [() -> Void] = []
  /// What it said when the connection was tried; for the first who asks.
  private var answer: String?
  /// A sealed copy of the stage that is at hand; without it one is made for each use.
  var program: Descriptor?
  /// Called when the connection that there was is gone, though nobody closed it: another one can be made.
  var onLoss: () -> Void = {}

  private func stageProgram() throws(Failure) -> Descriptor {
    if let program { return program }
    return try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))
  }

  /// Its system bus, and where it has none the private socket of its process 1.
  private static let places: [(path: String, kind: Bus.Kind)] = [
    ("/run/dbus/system_bus_socket", .daemon), ("/run/systemd/private", .direct),
  ]
  /// In microseconds: how long a machine may take to answer.
  private static let timeout: UInt64 = 10_000_000

  init(leader: Pidfd, programs: Programs, loop: EventLoop) {
    self.leader = leader
    self.programs = programs
    self.loop = loop
  }

  /// Where the connection goes to, once there is one.
  var kind: String? { bus.map { $0.kind == .daemon ? "system bus" : "private socket" } }

  /// Whether the machine's systemd can be asked.
  var isOpen: Bool { bus?.isOpen ?? false }

  func close() {
    bus?.close()
    bus = nil
    manager = nil
    joiners = []
  }

  /// Closes the connection to a machine whose bus goes away and comes again, as by a soft reboot.
  func reset() {
    close()
    hasTriedEarly = false
  }

  /// Connects, unless there is a connection already, and calls back in either case.
  func open(_ completion: @escaping () -> Void) {
    if isOpen, !isOpening { return completion() }
    waiting.append(completion)
    if !isOpening { begin(Self.places[...]) }
  }

  /// Connects to the system bus while the machine still boots, so that the way in is there when it is wanted. Whether
  /// it works shows then.
  func openEarly() {
    // Once: a machine could ask for it again and again.
    guard !hasTriedEarly, !isOpen, !isOpening else { return }
    hasTriedEarly = true
    isEarly = true
    begin(Self.places.prefix(1))
  }

  private func begin(_ places: ArraySlice<(path: String, kind: Bus.Kind)>) {
    isOpening = true
    tryNext(places) { [weak self] in
      // A machine may end while it is asked.
      guard let self else { return }
      isOpening = false
      // What it said during the boot says nothing of now.
      if isEarly { answer = nil }
      let wasEarly = isEarly
      isEarly = false
      if wasEarly, !isOpen, !waiting.isEmpty { return begin(Self.places[...]) }
      let calls = waiting
      waiting = []
      for call in calls { call() }
    }
  }

  private func tryNext(
    _ places: ArraySlice<(path: String, kind: Bus.Kind)>, _ completion: @escaping () -> Void
  ) {
    guard let place = places.first else { return completion() }
    do {
      let program = try stageProgram()
      let joiner = try Joiner.connect(
        to: place.path, leader: leader, program: program, on: loop, timeout: Self.timeout
      ) { [weak self] result in
        guard let self else { return }
        joiners = []
        switch result {
        case .success(let socket): adopt(socket, place.kind, places.dropFirst(), completion)
        case .failure(let failure):
          self.failure = failure
          tryNext(places.dropFirst(), completion)
        }
      }
      joiners.append(joiner)
    } catch {
      failure = error as? Failure ?? Failure("reach", place.path, "\(error)")
      tryNext(places.dropFirst(), completion)
    }
  }

  /// A bus that is there but does not answer, such as one whose daemon failed, is as good as none.
  private func adopt(
    _ socket: Descriptor, _ kind: Bus.Kind, _ rest: ArraySlice<(path: String, kind: Bus.Kind)>,
    _ completion: @escaping () -> Void
  ) {
    do {
      let copy = try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the connection")
      let bus = try Bus(descriptor: copy, kind: kind, on: loop)
      let manager = Manager(bus: bus, timeout: Self.timeout)
      self.bus = bus
      self.manager = manager
      bus.onDisconnect = { [weak self] _ in
        // Not while it is being tried: then the answer to its first question tells.
        guard let self, self.bus === bus, !isOpening else { return }
        self.bus = nil
        self.manager = nil
        onLoss()
      }
      manager.systemState { [weak self] result in
        guard let self else { return }
        answer = try? result.get()
        if case .failure(let error) = result {
          failure = Failure(
            "ask the machine's systemd", kind == .daemon ? "system bus" : "private socket", error.description,
            kind: error.isTimeout ? .timedOut : .failed)
          // Not from within its own callback.
          _ = try? loop.post { [weak self] in
            guard let self else { return }
            close()
            tryNext(rest, completion)
          }
        } else {
          completion()
        }
      }
    } catch {
      failure = Failure("reach", "the machine's systemd", "\(error)")
      tryNext(rest, completion)
    }
  }

  private var unreachable: Failure { failure ?? Failure("reach", "the machine's systemd", "there is no connection") }

  /// `SystemState`, as `systemctl is-system-running` shows it.
  func state(_ completion: @escaping (Result<String, Failure>) -> Void) {
    guard let manager else { return completion(.failure(unreachable)) }
    if let answer {
      self.answer = nil
      return completion(.success(answer))
    }
    manager.systemState { completion($0.mapError(Self.failure)) }
  }

  func units(_ completion: @escaping (Result<[Manager.Unit], Failure>) -> Void) {
    guard let manager else { return completion(.failure(unreachable)) }
    manager.listUnits { completion($0.mapError(Self.failure)) }
  }

  func powerOff(_ completion: @escaping (Bool) -> Void) { ask(completion) { $0.powerOff($1) } }

  func reboot(_ completion: @escaping (Bool) -> Void) { ask(completion) { $0.reboot($1) } }

  private func ask(
    _ completion: @escaping (Bool) -> Void,
    _ call: (Manager, @escaping (Result<Void, BusError>) -> Void) -> BusCall
  ) {
    guard let manager else { return completion(false) }
    _ = call(manager) { result in
      if case .success = result { completion(true) } else { completion(false) }
    }
  }

  /// The failed units, each with the last lines of its journal.
  func failedUnits(_ completion: @escaping ([FailedUnit]) -> Void) {
    guard let manager else { return completion([]) }
    manager.listFailedUnits { [weak self] result in
      guard let self else { return }
      guard case .success(let units) = result else { return completion([]) }
      let failed = units.prefix(20).map { FailedUnit(name: $0.name, description: $0.description, lines: []) }
      fetchLines(Array(failed), at: 0, completion)
    }
  }

  /// A unit with the last lines of its journal.
  ///
  /// By the machine's own journalctl, inside the machine: it always knows its own format, and what it reads is as
  /// untrusted as what it prints.
  ///
  /// - Parameters:
  ///   - isAll: false for what its own processes said, without what systemd says of it.
  ///   - completion: called once with the unit.
  func lines(of unit: FailedUnit, isAll: Bool, _ completion: @escaping (FailedUnit) -> Void) {
    let match = isAll ? "--unit=\(unit.name)" : "_SYSTEMD_UNIT=\(unit.name)"
    // With a system whose /usr is not merged it is in the other place.
    fetch(match, by: ["/usr/bin/journalctl", "/bin/journalctl"]) { lines in
      var unit = unit
      unit.lines = lines
      completion(unit)
    }
  }

  private func fetch(_ match: String, by programs: ArraySlice<String>, _ completion: @escaping ([String]) -> Void) {
    guard let journalctl = programs.first else { return completion([]) }
    do {
      let joiner = try Joiner.run(
        [journalctl, "--no-pager", "--quiet", "--output=cat", "--lines=5", match], leader: leader,
        program: try stageProgram(), on: loop, limit: 16384, timeout: 5_000_000
      ) { [weak self] text in
        guard let self else { return }
        joiners = []
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").suffix(5).map(String.init)
        if lines.isEmpty { fetch(match, by: programs.dropFirst(), completion) } else { completion(lines) }
      }
      joiners.append(joiner)
    } catch {
      completion([])
    }
  }

  private func fetchLines(
    _ units: [FailedUnit], at index: Int, _ completion: @escaping ([FailedUnit]) -> Void
  ) {
    guard index < units.count else { return completion(units) }
    lines(of: units[index], isAll: true) { [weak self] unit in
      var units = units
      units[index] = unit
      self?.fetchLines(units, at: index + 1, completion)
    }
  }

  private static func failure(_ error: BusError) -> Failure {
    Failure(
      "ask", "the machine's systemd", error.description, kind: error.isTimeout ? .timedOut : .failed)
  }
}
