import MachineSpec

/// Parses one file named `m`.
func parse(_ text: String, _ commandLine: [String] = []) -> (spec: Spec, diagnostics: [Diagnostic]) {
  Spec.parse(files: [Spec.File(name: "m", bytes: Array(text.utf8))], commandLine: commandLine)
}

/// The findings as they are shown.
func findings(_ text: String, _ commandLine: [String] = []) -> [String] {
  parse(text, commandLine).diagnostics.map(\.description)
}

/// A small generator that gives the same numbers for the same seed everywhere (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}
