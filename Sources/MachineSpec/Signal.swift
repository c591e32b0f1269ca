/// A signal, by its number on x86-64 and ARM64 with the C library's real-time range.
public struct Signal: SpecValue, Hashable {
  /// 1 to 64.
  public let number: Int32

  private static let names: [String] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
  ]
  private static let realTimeMinimum: Int32 = 34
  private static let realTimeMaximum: Int32 = 64
  private static let rule =
    "allowed are names such as SIGTERM, SIGPWR, SIGRTMIN+3, SIGRTMAX-1, and numbers from 1 to 64"

  /// Takes a number.
  ///
  /// - Parameter number: 1 to 64, but not 32 and 33, which the C library keeps to itself.
  /// - Throws: `SpecError` for any other.
  public init(number: Int32) throws(SpecError) {
    guard (1...64).contains(number), number != 32, number != 33 else {
      throw SpecError("signal", String(number), Self.rule)
    }
    self.number = number
  }

  /// Takes a name with or without `SIG`, or a number.
  ///
  /// - Parameter text: the signal.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    let name = text.hasPrefix("SIG") ? String(text.dropFirst(3)) : text
    var found = decimal(text, as: Int32.self)
    if let index = Self.names.firstIndex(of: name) {
      found = Int32(truncatingIfNeeded: index + 1)
    } else if name == "RTMIN" {
      found = Self.realTimeMinimum
    } else if name == "RTMAX" {
      found = Self.realTimeMaximum
    } else if let (base, step) = name.cut(UInt8(ascii: "+")), base == "RTMIN" {
      found = decimal(step, as: Int32.self).flatMap { $0 <= 30 ? Self.realTimeMinimum + $0 : nil }
    } else if let (base, step) = name.cut(UInt8(ascii: "-")), base == "RTMAX" {
      found = decimal(step, as: Int32.self).flatMap { $0 <= 30 ? Self.realTimeMaximum - $0 : nil }
    }
    guard let number = found, let signal = try? Signal(number: number) else {
      throw SpecError("signal", text, Self.rule)
    }
    self = signal
  }

  /// The name with `SIG`; real-time signals as `SIGRTMIN+N`.
  public var description: String {
    if number >= Self.realTimeMinimum {
      return number == Self.realTimeMinimum ? "SIGRTMIN" : "SIGRTMIN+\(number - Self.realTimeMinimum)"
    }
    let index = Int(number) - 1
    return Self.names.indices.contains(index) ? "SIG" + Self.names[index] : String(number)
  }
}
