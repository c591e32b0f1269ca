import MachinePlan
import StageProtocol
import Varlink

extension Supervisor {
  /// The plan that a start would carry out, as lists of lines.
  public func planJSON(overrides: [String]) throws -> JSON {
    let (plan, warnings) = try makePlan(overrides: overrides)
    return [
      "warnings": JSON(warnings), "host": JSON(plan.hostSteps.map(\.description)),
      "stage": JSON(plan.stage.operations.map(\.description)),
      "init": JSON(plan.stage.candidates), "arguments": JSON(plan.stage.arguments),
      "environment": JSON(plan.stage.environment),
    ]
  }
}
