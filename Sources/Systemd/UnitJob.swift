import Glibc

/// A job of a systemd's on its way to its end, of which the systemd tells by a signal.
///
/// The connection must have subscribed to signals, unless it is a direct one.
public final class UnitJob {
  private let loop: EventLoop
  private var match: BusMatch?
  private var timer: EventLoop.Source?
  private var job: UInt32?
  /// What ended before the number of the job was known.
  private var removed: [Manager.RemovedJob] = []
  private var completion: ((Result<Void, BusError>) -> Void)?

  /// Begins a job and waits for its end.
  ///
  /// - Parameters:
  ///   - manager: the systemd.
  ///   - unit: the unit that it is about.
  ///   - loop: what drives the connection.
  ///   - timeout: how long to wait, in microseconds.
  ///   - begin: asks for the job.
  ///   - completion: called once; an error of a job that ended otherwise than well has its result as the message.
  public init(
    _ manager: Manager, unit: String, on loop: EventLoop, timeout: UInt64,
    begin: (@escaping (Result<UInt32, BusError>) -> Void) -> BusCall,
    completion: @escaping (Result<Void, BusError>) -> Void
  ) {
    self.loop = loop
    self.completion = completion
    do {
      match = try manager.jobRemoved { [weak self] job in
        if job.unit == unit { self?.take(job) }
      }
      timer = try loop.addTimer(after: timeout) { [weak self] in
        self?.end(.failure(BusError("the job of \(unit) did not end in time", errno: ETIMEDOUT)))
      }
    } catch {
      let failure = error as? BusError ?? BusError("sd_event_add_time", errno: ENOMEM)
      _ = try? loop.post { [weak self] in self?.end(.failure(failure)) }
      return
    }
    _ = begin { [weak self] result in
      guard let self else { return }
      switch result {
      case .success(let id):
        job = id
        for one in removed { take(one) }
        removed = []
      case .failure(let error): end(.failure(error))
      }
    }
  }

  private func take(_ removed: Manager.RemovedJob) {
    guard let job else {
      // Only so many: a unit has one job at a time.
      if self.removed.count < 16 { self.removed.append(removed) }
      return
    }
    guard removed.id == job else { return }
    let isDone = removed.result == "done"
    end(isDone ? .success(()) : .failure(BusError("its job ended with '\(removed.result)'", errno: EIO)))
  }

  private func end(_ result: Result<Void, BusError>) {
    match?.cancel()
    match = nil
    timer = nil
    let completion = completion
    self.completion = nil
    completion?(result)
  }
}
