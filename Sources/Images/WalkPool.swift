import CLinux
import Glibc
import Synchronization

/// Directories that are to be walked by whichever thread is free.
///
/// Threads take a whole subtree each, and give parts of it away only while another is idle, so that the number of
/// directories in the queue, each with a descriptor, never passes the number of threads.
final class WalkPool {
  struct Subtree {
    var descriptor: Int32
    var path: String
  }

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let threads: Int
  // All of these are read and written with `mutex` held, `hungry` and `stopped` also read without.
  private var queue: [Subtree] = []
  private var idle = 0
  private var problem: (any Error)?
  private let hungry = Atomic<Int>(0)
  private let stopped = Atomic<Bool>(false)

  init(threads: Int) {
    self.threads = threads
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(changed, nil)
  }

  deinit {
    for subtree in queue { clinux_close(subtree.descriptor) }
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
    changed.deallocate()
  }

  /// Whether a thread waits for work that nobody has given it yet.
  var wantsWork: Bool { hungry.load(ordering: .relaxed) > 0 }

  /// Whether a thread failed, so that the others should end.
  var isStopped: Bool { stopped.load(ordering: .relaxed) }

  /// Gives a subtree to another thread; its descriptor goes with it.
  func give(_ subtree: Subtree) {
    pthread_mutex_lock(mutex)
    queue.append(subtree)
    hungry.store(max(0, idle - queue.count), ordering: .relaxed)
    pthread_cond_signal(changed)
    pthread_mutex_unlock(mutex)
  }

  /// Waits for a subtree; nil when everything is walked or a thread failed.
  func take() -> Subtree? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    idle += 1
    while queue.isEmpty && idle < threads && !isStopped {
      hungry.store(max(0, idle - queue.count), ordering: .relaxed)
      pthread_cond_wait(changed, mutex)
    }
    guard !isStopped, let subtree = queue.popLast() else {
      pthread_cond_broadcast(changed)
      return nil
    }
    idle -= 1
    hungry.store(max(0, idle - queue.count), ordering: .relaxed)
    return subtree
  }

  /// Ends every thread's work; the first error is kept.
  func fail(_ error: any Error) {
    pthread_mutex_lock(mutex)
    if problem == nil { problem = error }
    stopped.store(true, ordering: .relaxed)
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(mutex)
  }

  /// Runs `body` on as many threads as the pool has, the caller's among them, and waits for all.
  ///
  /// - Throws: what the first thread to fail threw.
  func run(_ body: @escaping () -> Void) throws {
    let box = Unmanaged.passRetained(Body(body))
    defer { box.release() }
    var started: [pthread_t] = []
    for _ in 1..<max(threads, 1) {
      var thread = pthread_t()
      let result = pthread_create(
        &thread, nil,
        { pointer in
          if let pointer { Unmanaged<Body>.fromOpaque(pointer).takeUnretainedValue().call() }
          return nil
        }, box.toOpaque())
      if result == 0 { started.append(thread) } else { retire() }
    }
    body()
    for thread in started { pthread_join(thread, nil) }
    if let problem { throw problem }
  }

  /// Counts a thread that could not be started as one that is idle for ever.
  private func retire() {
    pthread_mutex_lock(mutex)
    idle += 1
    pthread_mutex_unlock(mutex)
  }

  private final class Body {
    let call: () -> Void
    init(_ call: @escaping () -> Void) { self.call = call }
  }
}
