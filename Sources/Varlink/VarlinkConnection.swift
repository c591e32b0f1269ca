/// The server's side of one connection, as a state machine: bytes in, calls; replies, bytes out.
///
/// Whoever owns the socket reads while `wantsInput`, hands the bytes to `receive`, sends `output` while there is any,
/// and closes the socket once `isClosed`. Calls are answered one after another, in the order in which they came.
public final class VarlinkConnection {
  /// Called when there is output to send, or the connection was closed by itself; not called from within `receive`,
  /// after which the owner looks anyway.
  public var onChange: (() -> Void)?

  private let service: VarlinkService
  private let outputLimit: Int
  private var input: FrameBuffer
  private var queue: [UInt8] = []
  private var sent = 0
  private weak var current: VarlinkResponder?
  private var isAnswering = false
  private var isReceiving = false
  private var endOfInput = false
  private var closed = false

  /// Makes the state of a fresh connection.
  ///
  /// - Parameters:
  ///   - service: what answers the calls.
  ///   - inputLimit: the greatest length of one call, in bytes.
  ///   - outputLimit: how many bytes may wait for a slow reader before it is cut off.
  public init(service: VarlinkService, inputLimit: Int = 1 << 20, outputLimit: Int = 1 << 20) {
    self.service = service
    self.outputLimit = outputLimit
    input = FrameBuffer(limit: inputLimit)
  }

  deinit { hangUp() }

  /// The connection has come to its end: send nothing more and close the socket.
  public var isClosed: Bool { closed || (endOfInput && !isAnswering && output.isEmpty) }

  /// More bytes may be handed to `receive`; while a call is being answered they stay in the socket.
  public var wantsInput: Bool { !closed && !endOfInput && !isAnswering && output.isEmpty }

  /// The bytes that are to be sent next; empty when there are none.
  public var output: ArraySlice<UInt8> { closed ? [] : queue[sent...] }

  /// Takes note of what was sent.
  ///
  /// - Parameter count: how many bytes of `output` the socket took.
  public func didSend(_ count: Int) {
    sent = min(queue.count, sent + max(count, 0))
    guard sent == queue.count else { return }
    queue = []
    sent = 0
    answerWaitingCalls()
  }

  /// Takes bytes from the socket, and answers the calls that are complete.
  ///
  /// - Parameter bytes: what one `recv` delivered; none for the end of the stream.
  public func receive(_ bytes: some Collection<UInt8>) {
    guard !closed else { return }
    if bytes.isEmpty {
      endOfInput = true
    } else {
      input.append(bytes)
    }
    answerWaitingCalls()
  }

  /// Ends the connection from outside, because the socket failed or the peer is gone.
  public func hangUp() {
    closed = true
    queue = []
    sent = 0
    current?.hangUp()
    current = nil
  }

  private func answerWaitingCalls() {
    // A handler that answers at once comes back here through `take`: one loop instead of a stack of them.
    guard !isReceiving else { return }
    isReceiving = true
    defer { isReceiving = false }
    // A client that sends calls and reads no reply waits here, not in our memory.
    while !closed, !isAnswering, output.isEmpty {
      do {
        guard let frame = try input.next() else { return }
        guard case .call(let call) = try VarlinkMessage(parsing: frame) else { return hangUp() }
        answer(call)
      } catch {
        return hangUp()
      }
    }
  }

  private func answer(_ call: VarlinkCall) {
    isAnswering = true
    let responder = VarlinkResponder(call) { [weak self] reply in self?.take(reply, oneway: call.oneway) }
    current = responder
    service.handle(call, responder)
  }

  private func take(_ reply: VarlinkReply?, oneway: Bool) {
    guard !closed else { return }
    if reply?.continues != true {
      isAnswering = false
      current = nil
    }
    if !oneway {
      let frame = reply?.frame
      if let frame, queue.count - sent + frame.count <= outputLimit {
        queue.append(contentsOf: frame)
      } else {
        hangUp()
      }
    }
    guard !isReceiving else { return }
    answerWaitingCalls()
    onChange?()
  }
}
