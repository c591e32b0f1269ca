/// A set of Linux capabilities, each at the bit of its number in `linux/capability.h`.
public struct CapabilitySet: OptionSet, SpecSet, Hashable {
  /// One bit for each capability.
  public let rawValue: UInt64

  /// Takes bits as they are in `CapBnd` of `/proc/PID/status`.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Every capability, those included that only a later kernel knows.
  public static let all = CapabilitySet(rawValue: .max)

  /// The names, each at its number.
  public static let names: [String] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
  ]

  private static let numbers: [String: UInt64] = Dictionary(
    uniqueKeysWithValues: zip(names, names.indices.map(UInt64.init)))

  /// Takes words: names of capabilities in any case, or `all`.
  ///
  /// - Parameter text: the words.
  /// - Throws: `SpecError` that names the unknown word and the nearest known one.
  public init(_ text: String) throws(SpecError) {
    var bits: UInt64 = 0
    for word in try splitWords(text) {
      if word.lowercased() == "all" {
        bits = .max
      } else if let number = Self.numbers[word.uppercased()] {
        bits |= 1 << number
      } else {
        let hint = nearest(to: word, among: Self.names).map { "; did you mean \($0)?" } ?? ""
        throw SpecError("capability", word, "allowed are all, CAP_CHOWN to CAP_CHECKPOINT_RESTORE" + hint)
      }
    }
    self.init(rawValue: bits)
  }

  /// The number of a capability, by its name in capitals.
  public static func number(of name: String) -> Int? { numbers[name].map(Int.init) }

  /// The numbers of the capabilities in the set that have a name here, ascending.
  public var numbers: [Int] { Self.names.indices.filter { rawValue & 1 << UInt64($0) != 0 } }

  /// `all`, or the names in the order of their numbers.
  public var description: String {
    self == .all ? "all" : numbers.map { Self.names[$0] }.joined(separator: " ")
  }
}
