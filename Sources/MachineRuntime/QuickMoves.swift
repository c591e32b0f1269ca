import Glibc
import Linux
import Systemd

/// A move of this process to the control group that it is in, so that other moves after it wait for nothing.
///
/// The kernel moves a process only while no other is born or ends. To bring that about it waits for a grace period of
/// RCU, some ten milliseconds, unless it has just done so for a move before this one. A cgroup2 that is mounted with
/// `favordynmods` does without for good, for all of the host, which is its owner's to decide.
struct OwnMove {
  private let members: Descriptor

  /// - Parameter group: the one that this process is in.
  /// - Returns: nil where the group cannot be written to; moves are as slow as everywhere then.
  init?(in group: CgroupDirectory) {
    guard let members = try? group.descriptor.open("cgroup.procs", .write, lookup: .beneath) else { return nil }
    self.members = members
  }

  /// 0 is the caller. Another process's write may fail for what that one does; this one can only be in vain.
  func make() { _ = write(members.raw, "0", 1) }
}

/// Keeps the processes of a machine that boots from waiting whenever they are moved to a control group of their own.
///
/// A boot makes about thirty moves, a few at a time, and waits anew for most: a tenth of the time to `running`. So
/// meanwhile the supervisor moves itself, again and again: each of these moves costs microseconds, and those of the
/// machine's cost no more.
final class QuickMoves {
  /// In microseconds: below the shortest grace period that is worth avoiding.
  private static let interval: UInt64 = 8000
  /// In microseconds: a machine that boots for longer waits for other things than moves.
  private static let longest: UInt64 = 5_000_000

  private let ownMove: OwnMove
  private let loop: EventLoop
  private var source: EventLoop.Source?
  private var left = longest / interval

  /// - Parameters:
  ///   - group: the one that this process is in.
  ///   - loop: calls it until this object is let go of.
  /// - Returns: nil where the group cannot be written to; moves are as slow as everywhere then.
  init?(in group: CgroupDirectory, on loop: EventLoop) {
    guard let ownMove = OwnMove(in: group) else { return nil }
    self.ownMove = ownMove
    self.loop = loop
    move()
  }

  private func move() {
    ownMove.make()
    guard left > 0 else { return }
    left -= 1
    source = try? loop.addTimer(after: Self.interval) { [weak self] in self?.move() }
  }
}
