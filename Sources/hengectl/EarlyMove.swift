import CLinux
import Glibc
import Linux

/// Has the kernel begin early with what the machine's process 1 has to wait for as it moves a command to its control group:
/// a grace period of RCU, ten milliseconds, and another one before that when something else had one begin already, as all
/// that goes on for a command soon does. So this comes before everything else: five milliseconds of twenty.
///
/// What begins it is a move of any process; ours is to where it is. The machine's supervisor does the same later on, for
/// whoever calls it (`MachineRuntime/QuickMoves.swift`).
enum EarlyMove {
  /// Does nothing where this process may not write to its own group. Nor for an ordinary user: what becomes root of a
  /// namespace of its own must have a single thread, and begins here anew when it has.
  static func beginForCommand() {
    guard geteuid() == 0, CommandLine.argc > 2, let verb = CommandLine.unsafeArgv[1],
      strcmp(verb, "exec") == 0 || strcmp(verb, "shell") == 0
    else { return }
    let path = "/proc/self/cgroup"
    guard let bytes = try? Descriptor.open(path).readAll(subject: path),
      let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first(where: { $0.hasPrefix("0::/") })
    else { return }
    // The second is where version 1 has the first.
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
      let members = open("\(mount)\(line.dropFirst(3))/cgroup.procs", O_WRONLY | O_CLOEXEC)
      // It holds up this process's end, and nothing else of it.
      if members >= 0 {
        _ = clinux_write_beside(members, "0")
        return
      }
    }
  }
}
