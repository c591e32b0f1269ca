import Linux

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
  private var queue: [Piece] = []
  private var sent = 0
  private var waiting = 0
  private var received: [Descriptor] = []
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
  public var output: ArraySlice<UInt8> { closed ? [] : queue.first?.bytes[sent...] ?? [] }

  /// The open files that go along with the first byte of `output`.
  public var outputDescriptors: [Descriptor] { closed || sent > 0 ? [] : queue.first?.descriptors ?? [] }

  /// Output up to where descriptors come along with a byte.
  private struct Piece {
    var bytes: [UInt8]
    var descriptors: [Descriptor]
  }

  /// Takes note of what was sent.
  ///
  /// - Parameter count: how many bytes of `output` the socket took.
  public func didSend(_ count: Int) {
    guard let first = queue.first else { return }
    let taken = min(first.bytes.count - sent, max(count, 0))
    sent += taken
    waiting -= taken
    guard sent == first.bytes.count else { return }
    queue.removeFirst()
    sent = 0
    if queue.isEmpty { answerWaitingCalls() }
  }

  /// Takes bytes from the socket, and answers the calls that are complete.
  ///
  /// - Parameters:
  ///   - bytes: what one `recv` delivered; none for the end of the stream.
  ///   - descriptors: what came along; it belongs to the call that is complete next.
  public func receive(_ bytes: some Collection<UInt8>, descriptors: [Descriptor] = []) {
    guard !closed else { return }
    received += descriptors
    // No call takes more than one message can carry: a client that sends calls without end must not fill our table.
    guard received.count <= 16 else { return hangUp() }
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
    waiting = 0
    received = []
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
        guard case .call(var call) = try VarlinkMessage(parsing: frame) else { return hangUp() }
        call.descriptors = received
        received = []
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
      if let reply, waiting + reply.frame.count <= outputLimit {
        enqueue(reply)
      } else {
        hangUp()
      }
    }
    guard !isReceiving else { return }
    answerWaitingCalls()
    onChange?()
  }

  private func enqueue(_ reply: VarlinkReply) {
    let frame = reply.frame
    waiting += frame.count
    if reply.descriptors.isEmpty, let last = queue.indices.last {
      queue[last].bytes += frame
    } else {
      queue.append(Piece(bytes: frame, descriptors: reply.descriptors))
    }
  }
}
