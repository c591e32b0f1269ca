import MachineSpec
import Testing

@Suite struct LimitsAutoScaleTests {
  @Test func stepsStayWithinTheirBounds() throws {
    let policy = try AutoScale("CPUQuota 50% 200% 60%")
    var (value, way) = (policy.minimum, [UInt64]())
    while value < policy.maximum {
      value = policy.above(value)
      way.append(value)
    }
    #expect(way == [11000, 17000, 20000])
    way = []
    while value > policy.minimum {
      value = policy.below(value)
      way.append(value)
    }
    #expect(way == [14000, 8000, 5000])
    // From wherever somebody else has put it.
    #expect(
      policy.above(1) == 6001 && policy.above(.max) == 20000 && policy.below(.max) == 20000 && policy.below(0) == 5000)
  }

  @Test func theGreatestNumbers() throws {
    let policy = try AutoScale("MemoryHigh 1 15E 14E")
    #expect(policy.above(policy.above(1)) == policy.maximum && policy.below(policy.maximum) < policy.maximum)
  }
}
