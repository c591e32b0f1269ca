import CLinux
import Glibc
import Linux
import StageProtocol

/// One direction of a connection.
struct Flow {
  private var pipe: Pipe?
  private var held = 0
  private var isAtEnd = false
  /// Its end has been passed on.
  private(set) var isDone = false
  /// It stopped because of the bound, not because there was nothing.
  private(set) var hasMore = false
  /// Bytes that it has passed on.
  private(set) var moved = 0

  /// Goes on after what was sent ahead.
  mutating func begin(_ ahead: SentAhead, _ loop: RelayLoop) {
    moved = ahead.count
    loop.count(.bytesIn, ahead.count)
    (isAtEnd, isDone) = (ahead.isEndSent, ahead.isEndSent)
  }

  /// - Returns: false when one of the two is broken.
  mutating func move(from: Int32, to: Int32, counter: RelayCounter, _ loop: RelayLoop) -> Bool {
    hasMore = false
    if isDone { return true }
    for _ in 0..<8 {
      if held == 0, !isAtEnd {
        guard let pipe = pipe ?? loop.pipes.take() else { return false }
        self.pipe = pipe
        let count = clinux_splice(from, pipe.input.raw, PipePool.size, false)
        if count < 0 {
          guard errno == EAGAIN else { return false }
          // An idle connection holds no pipe.
          end(loop)
          return true
        }
        if count == 0 { isAtEnd = true }
        held = count
      }
      if held > 0, let pipe {
        let count = clinux_splice(pipe.output.raw, to, held, false)
        if count < 0 { return errno == EAGAIN }
        held -= count
        moved += count
        loop.count(counter, count)
        if held > 0 { return true }
      }
      if isAtEnd, held == 0 {
        shutdown(to, Int32(SHUT_WR))
        isDone = true
        end(loop)
        return true
      }
    }
    hasMore = true
    return true
  }

  mutating func end(_ loop: RelayLoop) {
    // One with something in it is of no use to another connection.
    if let pipe, held == 0 { loop.pipes.giveBack(pipe) }
    pipe = nil
  }
}

/// Pipes are dear: they are lent to a connection while something is on its way.
final class PipePool {
  /// A splice through a larger one costs the cache more than it saves in calls.
  static let size = 256 << 10

  private var free: [Pipe] = []

  func take() -> Pipe? {
    if let pipe = free.popLast() { return pipe }
    return try? Pipe(size: Int32(Self.size))
  }

  func giveBack(_ pipe: Pipe) {
    if free.count < 64 { free.append(pipe) }
  }
}
