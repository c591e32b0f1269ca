import CLinux
import Glibc
import Linux
import Systemd

/// Keeps processes of a machine from waiting whenever they are moved to a control group of their own.
///
/// The kernel moves a process only while no other is born or ends. To bring that about it waits for a grace period of
/// RCU, some ten milliseconds, unless it has just done so for a move before this one. A boot makes about thirty, a few at
/// a time, and waits anew for most: a tenth of the time to `running`; each command that systemd runs makes one, half of
/// the time that `true` takes. So for a while the supervisor moves itself, again and again, to where it is: each of these
/// moves costs microseconds, and those of the machine's cost no more. A cgroup2 that is mounted with `favordynmods` has
/// that for good, for all of the host, which is its owner's to decide.
final class QuickMoves {
  /// In microseconds: below the shortest grace period that is worth avoiding.
  private static let interval: UInt64 = 8000

  private let members: Descriptor
  private let loop: EventLoop
  private var source: EventLoop.Source?
  /// Makes the first move, of itself.
  private var first: Pidfd?
  private var end: UInt64 = 0

  /// - Parameters:
  ///   - group: the one that this process is in.
  ///   - loop: calls it until this object is let go of.
  /// - Returns: nil where the group cannot be written to; moves are as slow as everywhere then.
  init?(in group: CgroupDirectory, on loop: EventLoop) {
    guard let members = try? group.descriptor.open("cgroup.procs", .write, lookup: .beneath) else { return nil }
    self.members = members
    self.loop = loop
  }

  /// The group must be free of all but this process when it is removed.
  deinit { stop() }

  /// Goes on right after another move, which has waited already.
  ///
  /// - Parameter time: for how long, in microseconds.
  func go(for time: UInt64) {
    end = max(end, clinux_monotonic_microseconds() + time)
    if first == nil { move() }
  }

  /// Begins, or goes on for longer. A process of its own waits for the first move, so that nobody here does.
  ///
  /// - Parameter time: for how long, in microseconds.
  func begin(for time: UInt64) {
    end = max(end, clinux_monotonic_microseconds() + time)
    guard source == nil else { return }
    guard let child = try? Pidfd(writing: "0", to: members) else { return move() }
    first = child
    source = try? loop.addChild(pidfd: child.descriptor.raw) { [weak self] in self?.firstEnded() }
    if source == nil { stop() }
  }

  func stop() {
    source = nil
    end = 0
    // Its wait is bounded by the kernel's.
    _ = try? first?.reap(wait: true)
    first = nil
  }

  private func firstEnded() {
    let child = first
    first = nil
    _ = try? child?.reap()
    moveLater()
  }

  private func move() {
    // 0 is the caller. Another process's write may fail for what that one does; this one can only be in vain.
    _ = write(members.raw, "0", 1)
    moveLater()
  }

  private func moveLater() {
    source =
      clinux_monotonic_microseconds() < end
      ? try? loop.addTimer(after: Self.interval) { [weak self] in self?.move() } : nil
  }
}
