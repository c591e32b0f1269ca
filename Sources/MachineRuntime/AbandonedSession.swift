import CLinux
import Glibc
import Linux
import Systemd

/// What a session leaves when whoever sat at it goes away.
///
/// A hang-up ends what runs at a terminal, and leaves in peace who wants to stay: who ignores it, and who has made a
/// session of its own, as tmux does. But a program that a shell has forked and not yet executed does not hear it: the
/// signal goes to the shell's own handler, which is gone with the execution, and the program stays for ever at a
/// terminal that is none. So those that began at the last moment hear it again, when the shell is gone. Where there is
/// no terminal nothing is hung up, and the whole session hears it for the first time.
final class AbandonedSession {
  /// How long before the end the last moment begins, in seconds: typing the three ^] takes some of it.
  private static let lastMoment = 1.0
  /// When those who are still there hear it, in microseconds one after the other: a fork may take its time.
  private static let pauses: [UInt64] = [1, 100_000, 400_000, 1_500_000]

  private let session: Int32
  private let group: CgroupDirectory
  private let loop: EventLoop
  /// In ticks of the system's clock since it was started.
  private let since: UInt64
  private var timer: EventLoop.Source?

  /// Keeps in mind that the session is left now; nil when there is none.
  ///
  /// - Parameters:
  ///   - terminal: its terminal, if it has one.
  ///   - process: else its main process, as the machine numbers it.
  ///   - group: the machine's; nobody else is signalled.
  init?(at terminal: Pty?, of process: UInt32, in group: CgroupDirectory, on loop: EventLoop) {
    let leader = terminal == nil && process > 1 ? group.process { Self.number(of: $0) == process } : nil
    guard let session = terminal?.session ?? leader.map(getsid), session > 1 else { return nil }
    self.session = session
    self.group = group
    self.loop = loop
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    let moment = Double(time.tv_sec) + Double(time.tv_nsec) / 1e9 - Self.lastMoment
    since = terminal == nil ? 0 : UInt64(max(0, moment) * Double(max(1, sysconf(Int32(_SC_CLK_TCK)))))
  }

  /// Has those whom it concerns hear the hang-up, now and a few times more; holds this object until then.
  func hangUp() { hangUp(after: Self.pauses[...]) }

  private func hangUp(after pauses: ArraySlice<UInt64>) {
    timer = nil
    guard let pause = pauses.first else { return }
    timer = try? loop.addTimer(after: pause) { [self] in
      let count = try? group.signal(SIGHUP) { getsid($0) == session && Self.start(of: $0).map { $0 >= since } ?? false }
      hangUp(after: count == 0 ? [] : pauses.dropFirst())
    }
  }

  /// When a process began; the 22nd field of `/proc/PID/stat`.
  private static func start(of process: Int32) -> UInt64? {
    guard let text = try? Descriptor.open("/proc/\(process)/stat").readAll(limit: 4096, subject: "stat"),
      let end = text.lastIndex(of: 41)
    else { return nil }
    let fields = text[(end + 1)...].split(separator: 32)
    return fields.count > 19 ? UInt64(String(decoding: fields[19], as: UTF8.self)) : nil
  }

  /// What the machine calls a process: the second of the numbers in `NSpid:` of `/proc/PID/status`.
  private static func number(of process: Int32) -> UInt32? {
    guard let text = try? Descriptor.open("/proc/\(process)/status").readAll(limit: 16384, subject: "status") else {
      return nil
    }
    let line = String(decoding: text, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("NSpid:") }
    let numbers = line?.split(separator: "\t") ?? []
    return numbers.count > 2 ? UInt32(numbers[2]) : nil
  }
}
