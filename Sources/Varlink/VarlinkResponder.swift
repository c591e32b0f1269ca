import Linux

/// The place where the answer to one call goes; keep it to answer later.
///
/// A responder that is let go without an answer closes its connection, so that no client waits for ever.
public final class VarlinkResponder {
  /// The caller takes more than one reply.
  public let more: Bool
  /// Called once, when the client went away before the answer was complete.
  public var onHangUp: (() -> Void)?
  private let oneway: Bool
  private var sink: ((VarlinkReply?) -> Void)?

  /// Makes a responder.
  ///
  /// - Parameters:
  ///   - call: the call that is to be answered.
  ///   - sink: takes each reply; nil stands for a call that was let go unanswered.
  public init(_ call: VarlinkCall, _ sink: @escaping (VarlinkReply?) -> Void) {
    more = call.more
    oneway = call.oneway
    self.sink = sink
  }

  deinit { sink?(nil) }

  /// The answer is not complete, and the client is still there.
  public var isOpen: Bool { sink != nil }

  /// Sends one of several replies; without `more` it is dropped, since the client would take it for the answer.
  ///
  /// - Parameters:
  ///   - parameters: the named results, an object.
  ///   - descriptors: open files that go along with it, at most 16.
  public func send(_ parameters: JSON, passing descriptors: [Descriptor] = []) {
    guard more, !oneway else { return }
    sink?(VarlinkReply(parameters: parameters, continues: true, descriptors: descriptors))
  }

  /// Completes the answer; later replies are dropped.
  ///
  /// - Parameters:
  ///   - parameters: the named results, an object.
  ///   - descriptors: open files that go along with it, at most 16.
  public func finish(_ parameters: JSON = [:], passing descriptors: [Descriptor] = []) {
    complete(VarlinkReply(parameters: parameters, descriptors: descriptors))
  }

  /// Completes the answer with an error; later replies are dropped.
  ///
  /// - Parameter error: what the client is told.
  public func fail(_ error: VarlinkError) {
    complete(VarlinkReply(parameters: error.parameters, error: error.name))
  }

  private func complete(_ reply: VarlinkReply) {
    guard let sink else { return }
    self.sink = nil
    onHangUp = nil
    sink(reply)
  }

  /// Tells whoever works on the answer that nobody waits for it.
  func hangUp() {
    guard sink != nil else { return }
    sink = nil
    let handler = onHangUp
    onHangUp = nil
    handler?()
  }
}
