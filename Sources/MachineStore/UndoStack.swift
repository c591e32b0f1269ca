/// What has to be taken back if a set-up does not come to its end, the last step first. Each undo is pushed before its
/// step, so it must bear that the step was not taken.
public final class UndoStack {
  private var steps: [() -> Void] = []

  /// Nothing to take back yet.
  public init() {}

  /// Adds the way back of the step that follows.
  public func push(_ step: @escaping () -> Void) { steps.append(step) }

  /// Takes everything back.
  public func run() {
    while let step = steps.popLast() { step() }
  }

  /// Forgets everything: the set-up stands.
  public func disarm() { steps = [] }
}
