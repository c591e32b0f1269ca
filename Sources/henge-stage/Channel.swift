import Glibc
import Linux
import StageProtocol

/// The way back to the supervisor.
struct Channel {
  let socket: Descriptor

  init(_ socket: Descriptor) {
    self.socket = socket
  }

  func send(_ message: StageMessage, passing descriptor: Descriptor? = nil) throws(Failure) {
    try socket.send(message.encoded, passing: descriptor)
  }

  /// Tells of a failure; that the supervisor is gone as well is nothing that could be told to anybody.
  func report(_ failure: Failure) {
    try? send(
      .failed(
        StageFailure(
          operation: failure.operation, subject: failure.subject ?? "", reason: failure.reason,
          errno: failure.errno?.rawValue ?? 0, advice: failure.advice ?? "", code: failure.kind.rawValue)))
  }
}
