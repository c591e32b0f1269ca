import CSystemd

/// A call that waits for its answer.
public final class BusCall {
  var slot: OpaquePointer?
  var timer: EventLoop.Source?
  var onEnd: (() -> Void)?
  private var completion: ((Result<Message, BusError>) -> Void)?

  init(_ completion: @escaping (Result<Message, BusError>) -> Void) {
    self.completion = completion
  }

  deinit { sd_bus_slot_unref(slot) }

  /// Declines the answer: the completion is not called any more.
  ///
  /// The corresponding C function is `sd_bus_slot_unref`. The peer carries the call out all the same.
  public func cancel() {
    end()
  }

  func complete(_ result: Result<Message, BusError>) {
    let completion = completion
    end()
    completion?(result)
  }

  private func end() {
    completion = nil
    slot = sd_bus_slot_unref(slot)
    timer?.cancel()
    timer = nil
    let onEnd = onEnd
    self.onEnd = nil
    onEnd?()
  }

  /// Gets the unretained call as its user data: the bus holds the call as long as the slot is there.
  static let takeReply: sd_bus_message_handler_t = { message, data, _ in
    guard let message, let data else { return 0 }
    let call = Unmanaged<BusCall>.fromOpaque(data).takeUnretainedValue()
    if let error = BusError(of: message) {
      call.complete(.failure(error))
    } else {
      call.complete(.success(Message(sharing: message)))
    }
    return 0
  }
}
