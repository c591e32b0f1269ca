import Glibc
import Linux
import Logging
import MachinePlan
import Systemd

/// The connection to the host's own systemd: over its bus, and where that is not there, or does not answer, over the
/// private socket of the systemd itself.
final class HostBus {
  let keeper: HostManager
  private let loop: EventLoop
  private let log: Logger
  private(set) var manager: Manager?
  private var isOpening = false
  private var waiting: [(Result<Manager, Failure>) -> Void] = []
  private var reasons: [String] = []

  /// In microseconds: how long each way may take to answer.
  static let timeout: UInt64 = 5_000_000

  init(to keeper: HostManager, on loop: EventLoop, log: Logger) {
    self.keeper = keeper
    self.loop = loop
    self.log = log
  }

  private var places: [(path: String, kind: Bus.Kind)] {
    switch keeper {
    case .none: []
    case .system: [("/run/dbus/system_bus_socket", .daemon), ("/run/systemd/private", .direct)]
    case .user(let runtime): [("\(runtime)/bus", .daemon), ("\(runtime)/systemd/private", .direct)]
    }
  }

  /// Connects unless that was done before, and calls back in either case; never from within this method.
  ///
  /// - Parameter completion: takes the systemd, which has subscribed us to its signals, or why it cannot be asked.
  func open(_ completion: @escaping (Result<Manager, Failure>) -> Void) {
    waiting.append(completion)
    guard !isOpening else { return }
    isOpening = true
    if let manager, manager.bus.isOpen {
      post { [unowned self] in finish(.success(manager)) }
    } else {
      reasons = []
      tryNext(places[...])
    }
  }

  func close() {
    manager?.bus.close()
    manager = nil
  }

  private func tryNext(_ places: ArraySlice<(path: String, kind: Bus.Kind)>) {
    guard let place = places.first else {
      let why = reasons.isEmpty ? "it has none" : reasons.joined(separator: "; ")
      return post { [unowned self] in finish(.failure(Failure("ask", "the host's systemd", why, kind: .refused))) }
    }
    do throws(BusError) {
      let bus = try Bus(connectingTo: place.path, kind: place.kind, on: loop)
      let manager = Manager(bus: bus, timeout: Self.timeout)
      // Without it no signal comes; and the answer shows that somebody is there.
      _ = manager.subscribe { [unowned self] result in
        switch result {
        case .success:
          self.manager = manager
          bus.onDisconnect = { [weak self] error in
            self?.log.warning("the connection to the host's systemd is gone: \(printable(error.description))")
            self?.manager = nil
          }
          finish(.success(manager))
        case .failure(let error):
          give(up: place.path, error)
          // Not from within the connection's own callback, which this closes.
          post { [unowned self] in
            bus.close()
            tryNext(places.dropFirst())
          }
        }
      }
    } catch {
      give(up: place.path, error)
      tryNext(places.dropFirst())
    }
  }

  private func give(up path: String, _ error: BusError) {
    let reason = "\(path): \(printable(error.description))"
    reasons.append(reason)
    log.warning("the host's systemd does not answer at \(reason)")
  }

  private func finish(_ result: Result<Manager, Failure>) {
    isOpening = false
    let calls = waiting
    waiting = []
    for call in calls { call(result) }
  }

  private func post(_ body: @escaping () -> Void) {
    do {
      try loop.post(body)
    } catch {
      body()
    }
  }
}
