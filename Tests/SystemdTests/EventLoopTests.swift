import Glibc
import Testing

@testable import Systemd

@Suite struct EventLoopTests {
  @Test func timersFireInOrderAndOnce() throws {
    let loop = try EventLoop()
    var fired: [Int] = []
    let second = try loop.addTimer(after: 20_000) {
      fired.append(2)
      loop.exit(7)
    }
    let first = try loop.addTimer(after: 1_000) { fired.append(1) }
    #expect(try loop.run() == 7)
    #expect(fired == [1, 2])
    withExtendedLifetime((first, second)) {}
  }

  @Test func aTimerCanBeSetAgainInItsOwnCallback() throws {
    let loop = try EventLoop()
    var timer: EventLoop.Source?
    var count = 0
    timer = try loop.addTimer(after: 0) {
      count += 1
      if count == 3 { return loop.exit(0) }
      do { try timer?.rearm(after: 100) } catch { loop.exit(1) }
    }
    #expect(try loop.run() == 0)
    #expect(count == 3)
    timer = nil
  }

  @Test func longDelaysAreNoError() throws {
    let loop = try EventLoop()
    let timer = try loop.addTimer(after: .max) {}
    try timer.rearm(after: .max)
    #expect(try loop.runOnce(timeout: 0) == false)
  }

  @Test func aSourceThatIsLetGoIsSilent() throws {
    let loop = try EventLoop()
    var fired = false
    _ = try loop.addTimer(after: 0) { fired = true }
    try loop.runOnce(timeout: 2_000)
    #expect(!fired)
  }

  @Test func aSourceMayCancelOrReleaseItselfInItsCallback() throws {
    let loop = try EventLoop()
    let pipe = try Pipe()
    pipe.write([1])
    let witness = Witness()
    var source: EventLoop.Source?
    source = try loop.addIO(pipe.reader, .readable) { [witness] _ in
      source?.cancel()
      source = nil
      // The closure, and what it holds, must outlive the end of its source.
      witness.count += 1
    }
    try loop.runOnce(timeout: 1_000_000)
    try loop.runOnce(timeout: 1_000)
    #expect(witness.count == 1)
    #expect(source == nil)
  }

  @Test func cancellingLetsTheClosureGo() throws {
    let loop = try EventLoop()
    weak var weakWitness: Witness?
    let source: EventLoop.Source
    do {
      let witness = Witness()
      weakWitness = witness
      source = try loop.addDefer { [witness] in witness.count += 1 }
    }
    #expect(weakWitness != nil)
    source.cancel()
    #expect(weakWitness == nil)
    #expect(!source.isActive)
    try loop.runOnce(timeout: 0)
  }

  @Test func descriptorsReportReadingWritingAndHangUp() throws {
    let loop = try EventLoop()
    var ends: [Int32] = [-1, -1]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    defer { close(ends[0]) }
    var seen: [IOEvents] = []
    let source = try loop.addIO(ends[0], .writable) { seen.append($0) }
    try loop.runOnce(timeout: 1_000_000)
    try source.setEvents([.readable, .readHangUp])
    #expect(try loop.runOnce(timeout: 0) == false)
    close(ends[1])
    try loop.runOnce(timeout: 1_000_000)
    #expect(seen.first == .writable)
    #expect(seen.last?.isSuperset(of: [.hangUp, .readHangUp, .readable]) == true)
    source.cancel()
  }

  @Test func signalsTellTheirSender() throws {
    let loop = try EventLoop()
    var before = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    var seen: [SignalInfo] = []
    let source = try loop.addSignal(SIGUSR2) { seen.append($0) }
    // To this thread, since others of the test runner do not block it.
    pthread_kill(pthread_self(), SIGUSR2)
    try loop.runOnce(timeout: 1_000_000)
    #expect(seen.map(\.signal) == [SIGUSR2])
    #expect(seen.map(\.senderPID) == [getpid()])
    #expect(seen.map(\.senderUID) == [getuid()])
    source.cancel()
    #expect(throws: SystemdError.self) { try loop.addSignal(4711) { _ in } }
  }

  @Test func theEndOfAChildIsReportedOnce() throws {
    let loop = try EventLoop()
    let pid = try spawn("/bin/true")
    let pidfd = openPidfd(pid, 0)
    try #require(pidfd >= 0)
    defer { close(pidfd) }
    var ended = 0
    let source = try loop.addChild(pidfd: pidfd) { ended += 1 }
    try loop.runOnce(timeout: 5_000_000)
    try loop.runOnce(timeout: 1_000)
    #expect(ended == 1)
    source.cancel()
    var status: Int32 = 0
    #expect(waitpid(pid, &status, 0) == pid && status == 0)
  }

  @Test func postedClosuresRunOnceWithoutBeingKept() throws {
    let loop = try EventLoop()
    var order: [Int] = []
    try loop.post {
      order.append(1)
      do { try loop.post { order.append(2) } } catch { order.append(-1) }
    }
    #expect(order.isEmpty)
    for _ in 0..<3 { try loop.runOnce(timeout: 1_000) }
    #expect(order == [1, 2])
  }

  @Test func inotifyNamesWhatChanged() throws {
    let loop = try EventLoop()
    let folder = try TemporaryFolder()
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    var byPath: [InotifyEvent] = []
    var byDescriptor: [InotifyEvent] = []
    let create: UInt32 = 0x100
    let first = try loop.addInotify(path: folder.path, mask: create) { byPath.append($0) }
    let second = try loop.addInotify(descriptor: descriptor, mask: create) { byDescriptor.append($0) }
    close(descriptor)
    let name = "a name of some length"
    close(creat("\(folder.path)/\(name)", 0o600))
    for _ in 0..<4 { try loop.runOnce(timeout: 100_000) }
    #expect(byPath.map(\.name) == [name] && byDescriptor.map(\.name) == [name])
    #expect(byPath.map(\.mask) == [create])
    withExtendedLifetime((first, second)) {}
    unlink("\(folder.path)/\(name)")
    #expect(throws: SystemdError.self) { try loop.addInotify(path: "/nonexistent", mask: create) { _ in } }
  }
}

/// Something whose life can be watched.
final class Witness {
  var count = 0
}
