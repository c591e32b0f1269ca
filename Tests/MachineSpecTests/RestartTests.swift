import MachineSpec
import Testing

@Suite struct RestartTests {
  @Test func eachWaitIsTwiceTheOneBeforeUpToTheLongest() {
    var settings = RestartSettings()
    settings.burst = 0
    let seconds = (0..<8).map { (settings.delay(after: $0) ?? 0) / 1_000_000 }
    #expect(seconds == [1, 2, 4, 8, 16, 32, 60, 60])
    for earlier in [62, 63, 64, 1000, .max] { #expect(settings.delay(after: earlier) == 60_000_000) }
  }

  @Test func whoCameBackTooOftenIsLeftAlone() {
    var settings = RestartSettings()
    #expect(settings.delay(after: 4) == 16_000_000)
    #expect(settings.delay(after: 5) == nil)
    settings.burst = 1
    #expect(settings.delay(after: 0) == 1_000_000)
    #expect(settings.delay(after: 1) == nil)
  }

  @Test func noWaitIsNoWaitEachTime() {
    var settings = RestartSettings()
    settings.burst = 0
    settings.delay = TimeSpan(microseconds: 0)
    for earlier in [0, 1, 63, 64] { #expect(settings.delay(after: earlier) ?? 1 <= 60_000_000) }
    #expect(settings.delay(after: 3) == 0)
    // A first wait that is longer than the longest is cut.
    settings.delay = TimeSpan(seconds: 3600)
    #expect(settings.delay(after: 0) == 60_000_000)
  }
}
