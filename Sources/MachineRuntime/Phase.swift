import Linux
import Systemd

/// What a machine is doing; each case carries what is known then.
enum Phase {
  /// The supervisor was asked for nothing yet.
  case idle
  /// From the plan to the exec of process 1.
  case starting
  /// Process 1 runs, and has not said that it is done.
  case booting
  /// The machine's systemd is done; the units that failed, if any.
  case up([FailedUnit])
  /// It was told to stop, or tells that it does.
  case stopping(Stop)
  /// It ended, and is started again after a while.
  case restarting
  /// Nothing of it is left.
  case stopped(Failure?)

  /// The word for it.
  var name: String {
    switch self {
    case .idle, .starting: "starting"
    case .booting: "booting"
    case .up(let failed): failed.isEmpty ? "running" : "degraded"
    case .stopping(let stop): stop == .reboot ? "rebooting" : "stopping"
    case .restarting: "restarting"
    case .stopped: "stopped"
    }
  }
}

/// Why a machine stops.
enum Stop {
  case poweroff
  case reboot
  case terminate
}

/// A unit that failed, with the end of what it logged.
struct FailedUnit {
  var name: String
  var description: String
  var lines: [String]
}
