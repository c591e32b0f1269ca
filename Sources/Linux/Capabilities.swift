import CLibcap
import CLinux
import SystemPackage

/// Capabilities by their names. The corresponding C library is libcap.
public enum Capabilities {
  /// The number of a capability such as `CAP_SYS_ADMIN`; nil for a name that libcap does not know.
  public static func number(of name: String) -> UInt32? {
    var value: cap_value_t = 0
    guard cap_from_name(name, &value) == 0, value >= 0 else { return nil }
    return UInt32(value)
  }

  /// The name of a capability, in upper case.
  public static func name(of number: UInt32) -> String? {
    guard let text = cap_to_name(cap_value_t(number)) else { return nil }
    defer { cap_free(text) }
    let upper = String(cString: text).utf8.map { (97...122).contains($0) ? $0 - 32 : $0 }
    return String(decoding: upper, as: UTF8.self)
  }

  /// How many capabilities this kernel has.
  public static var count: UInt32 { UInt32(max(0, cap_max_bits())) }

  /// Whether this process has a capability in effect.
  public static func has(_ name: String) -> Bool {
    guard let number = number(of: name), let state = cap_get_proc() else { return false }
    defer { cap_free(UnsafeMutableRawPointer(state)) }
    var flag = CAP_CLEAR
    return cap_get_flag(state, cap_value_t(number), CAP_EFFECTIVE, &flag) == 0 && flag == CAP_SET
  }

  /// Takes capabilities away from this process and everything it will run: out of the bounding set, and with
  /// inheritable and ambient sets emptied.
  ///
  /// - Parameter dropped: numbers of capabilities; one that the kernel does not know is skipped, nobody has it.
  public static func confine(dropping dropped: [UInt32]) throws(Failure) {
    for capability in dropped where capability < count {
      try check(clinux_drop_bounding(capability), "drop the capability", name(of: capability))
    }
    try check(clinux_clear_ambient(), "clear the ambient capabilities")
    guard let state = cap_get_proc() else { throw Failure("read the capabilities of", "this process", "no memory") }
    defer { cap_free(UnsafeMutableRawPointer(state)) }
    try check(cap_clear_flag(state, CAP_INHERITABLE), "clear the inheritable capabilities")
    for capability in dropped where capability < count {
      var value = cap_value_t(capability)
      for set in [CAP_PERMITTED, CAP_EFFECTIVE] {
        try check(cap_set_flag(state, set, 1, &value, CAP_CLEAR), "drop the capability", name(of: capability))
      }
    }
    try check(cap_set_proc(state), "set the capabilities of", "this process")
  }
}
