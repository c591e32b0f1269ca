import Glibc
import Linux
import Systemd

/// The progress of a boot as the machine's bus tells it, for a systemd that does not tell by notification (before 256).
///
/// The private socket of process 1 appears early in the boot, in a folder that the stage made and handed out; that it
/// appears is seen by inotify, on the folder itself and not by a path.
final class BootProgress {
  private static let socket = "private"

  private let folder: Descriptor
  private let leader: Pidfd
  private let program: Descriptor
  private let loop: EventLoop
  private let tell: (String) -> Void
  private var watch: EventLoop.Source?
  private var joiner: Joiner?
  private var bus: Bus?
  private var match: BusMatch?

  /// - Parameter tell: called with each unit whose job is done.
  init(
    watching folder: Descriptor, leader: Pidfd, program: Descriptor, on loop: EventLoop,
    tell: @escaping (String) -> Void
  ) throws {
    self.folder = folder
    self.leader = leader
    self.program = program
    self.loop = loop
    self.tell = tell
    watch = try loop.addInotify(descriptor: folder.raw, mask: UInt32(IN_CREATE | IN_MOVED_TO)) { [unowned self] _ in
      connect()
    }
    connect()
  }

  /// Tries whenever something appears beside the socket: it may be there before anybody listens on it.
  private func connect() {
    guard bus == nil, joiner == nil, (try? folder.status(of: Self.socket)) ?? nil != nil else { return }
    joiner = try? Joiner.connect(
      to: "/run/systemd/\(Self.socket)", leader: leader, program: program, on: loop, timeout: 5_000_000
    ) { [weak self] result in
      guard let self else { return }
      joiner = nil
      if case .success(let socket) = result { try? subscribe(socket) }
    }
  }

  private func subscribe(_ socket: Descriptor) throws {
    watch = nil
    let copy = try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the connection")
    let bus = try Bus(descriptor: copy, kind: .direct, on: loop)
    self.bus = bus
    let manager = Manager(bus: bus)
    match = try manager.jobRemoved { [weak self] job in
      if job.result == "done" { self?.tell(job.unit) }
    }
    manager.subscribe { _ in }
  }
}
