import Linux
import Systemd

/// Watches one unit of a machine over its bus until it is active, or has failed.
final class UnitWatch {
  /// What came of it.
  enum Outcome {
    /// It is active, or has done what it was there for.
    case active(Manager.UnitState)
    /// It failed, or cannot become active at all; one line, and the end of what it logged.
    case failed(String, lines: [String])
    /// Its systemd does not answer.
    case unreachable(String, isTimeout: Bool)
  }

  private let unit: String
  private let guest: GuestConnection
  private var completion: ((Outcome) -> Void)?
  private var matches: [BusMatch] = []
  private var path = ""
  private var isAsking = false
  private var isNews = false
  private var wasActivating = false
  private var jobResult: String?

  init(_ unit: String, of guest: GuestConnection, completion: @escaping (Outcome) -> Void) {
    self.unit = unit
    self.guest = guest
    self.completion = completion
  }

  /// Ends the watch without an outcome.
  func cancel() {
    completion = nil
    matches = []
  }

  func begin() {
    guest.open { [weak self] in self?.subscribe() }
  }

  private func end(_ outcome: Outcome) {
    let call = completion
    cancel()
    call?(outcome)
  }

  private func end(_ error: BusError) { end(.unreachable(error.description, isTimeout: error.isTimeout)) }

  private func subscribe() {
    guard completion != nil else { return }
    guard let manager = guest.manager else {
      return end(.unreachable("there is no connection to it", isTimeout: false))
    }
    do {
      matches.append(
        try manager.jobRemoved { [weak self] job in
          guard let self, job.unit == unit else { return }
          jobResult = job.result
          ask()
        })
    } catch {
      return end(error)
    }
    // Before the first look, so that no change falls between the two.
    manager.subscribe { [weak self] _ in
      guard let self, completion != nil else { return }
      manager.loadUnit(unit) { [weak self] result in self?.watch(result, manager) }
    }
  }

  private func watch(_ result: Result<String, BusError>, _ manager: Manager) {
    guard completion != nil else { return }
    do throws(BusError) {
      path = try result.get()
      matches.append(try manager.unitChanged(path) { [weak self] in self?.ask() })
    } catch {
      // A name that is none, or a unit of a kind that has no file.
      return error.isTimeout || error.isDisconnected ? end(error) : end(.failed(error.message, lines: []))
    }
    ask()
  }

  /// However often it changes, one question is under way.
  private func ask() {
    guard completion != nil, let manager = guest.manager, !path.isEmpty else { return }
    guard !isAsking else {
      isNews = true
      return
    }
    isAsking = true
    isNews = false
    manager.unitState(path) { [weak self] result in
      guard let self else { return }
      isAsking = false
      guard completion != nil else { return }
      switch result {
      case .failure(let error): end(error)
      case .success(let state): judge(state, manager)
      }
      if isNews { ask() }
    }
  }

  private func judge(_ state: Manager.UnitState, _ manager: Manager) {
    switch state.active {
    case "active", "reloading", "refreshing": return end(.active(state))
    case "failed": return explain(manager)
    case "activating":
      wasActivating = true
      return
    default: break
    }
    switch state.load {
    case "loaded", "merged", "stub", "": break
    case "not-found": return end(.failed("there is no such unit", lines: []))
    default: return end(.failed("it is \(state.load)", lines: []))
    }
    switch jobResult {
    case "done" where wasActivating: end(.active(state))
    case "dependency": end(.failed("a unit that it needs failed", lines: []))
    case "timeout", "assert": end(.failed("its start ended by '\(jobResult ?? "")'", lines: []))
    default: break
    }
    jobResult = nil
  }

  private func explain(_ manager: Manager) {
    let type = unit.split(separator: ".").last.map(String.init) ?? ""
    matches = []
    manager.unitResult(path, type: type) { [weak self] result in
      guard let self, completion != nil else { return }
      var line = "it failed"
      if !result.result.isEmpty, result.result != "success" { line += " by '\(result.result)'" }
      switch (result.code, result.status) {
      case (1, 1...): line += ", its main process ended with status \(result.status)"
      case (2...3, _): line += ", its main process ended by signal \(result.status)"
      default: break
      }
      guest.lines(of: FailedUnit(name: unit, description: "", lines: []), isAll: false) { [weak self] unit in
        self?.end(.failed(line, lines: unit.lines))
      }
    }
  }
}
