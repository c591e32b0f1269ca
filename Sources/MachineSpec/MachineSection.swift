/// `[Machine]`: who the machine is and how its PID 1 is started.
public struct MachineSection: Equatable, Sendable {
  /// `Hostname=`: the name set before PID 1 starts; nil takes the machine's own name.
  public var hostname: HostName?
  /// `UUID=`: what `container_uuid` says while `/etc/machine-id` is empty; nil takes the machine's stored one.
  public var uuid: MachineUUID?
  /// `Boot=`: whether PID 1 is the image's init; with `no` the first of the parameters is run instead. Default yes.
  public var boot: Bool = true
  /// `Parameters=`, also `BootArguments=`: arguments for PID 1, quoted words. Repeated keys add.
  public var parameters: [InitArgument] = []
  /// `Environment=`: variables for PID 1, quoted words `NAME=VALUE`. Repeated keys add, a later `NAME` replaces.
  public var environment: [EnvironmentVariable] = []
  /// `Ephemeral=`: whether everything that the machine wrote is thrown away when it ends. Default no.
  public var ephemeral: Bool = false
  /// `IDs=`: how many user and group ids the machine gets when it is made; nil is 65536. More than that is what
  /// machines inside of it get theirs from.
  public var ids: IDCount?
  /// `Restart=` and its like: whether the supervisor starts the machine again when it ended.
  public var restart = RestartSettings()

  /// The defaults.
  public init() {}

  static let keys: [SpecKey] = ownKeys + RestartSettings.keys

  private static let ownKeys: [SpecKey] = [
    .optional("Hostname", \.machine.hostname),
    .optional("UUID", \.machine.uuid) { $0.isNull ? "all zero means \"not set\" to systemd" : nil },
    .flag("Boot", \.machine.boot),
    .words("Parameters", \.machine.parameters),
    .words("BootArguments", \.machine.parameters, isPrinted: false),
    .words("Environment", \.machine.environment) { $0.name == $1.name },
    .flag("Ephemeral", \.machine.ephemeral),
    .optional("IDs", \.machine.ids),
  ]
}

/// One argument of PID 1: any text without NUL, of at most 128 KiB less one byte (`MAX_ARG_STRLEN`).
public struct InitArgument: SpecValue, Hashable, ExpressibleByStringLiteral {
  /// The text.
  public let description: String

  /// Takes an argument.
  ///
  /// - Parameter text: the argument, unquoted.
  /// - Throws: `SpecError` when it has a NUL byte or is too long for `execve(2)`.
  public init(_ text: String) throws(SpecError) {
    guard !text.utf8.contains(0), text.utf8.count < 128 << 10 else {
      throw SpecError("argument", text, "it must have no NUL byte and be shorter than 128 KiB")
    }
    description = text
  }

  /// Takes a literal, cut at its first NUL.
  public init(stringLiteral text: String) {
    description = String(decoding: text.utf8.prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// One environment variable.
public struct EnvironmentVariable: SpecValue, Hashable {
  /// The name: letters, digits and `_`, not beginning with a digit.
  public let name: String
  /// The value; no control characters but tab and newline, as systemd has it.
  public let value: String

  /// Takes a variable.
  ///
  /// - Parameters:
  ///   - name: its name.
  ///   - value: its value.
  /// - Throws: `SpecError` for a bad or reserved name and for control characters in the value.
  public init(name: String, value: String) throws(SpecError) {
    let text = name + "=" + value
    guard let first = name.utf8.first, !first.isDigit,
      name.utf8.allSatisfy({ $0.isLetter || $0.isDigit || $0 == UInt8(ascii: "_") })
    else {
      throw SpecError("variable", text, "write NAME=VALUE, the name of letters, digits and \"_\", no digit first")
    }
    guard !Self.reserved.contains(name), !name.hasPrefix("container_") else {
      throw SpecError("variable", text, "\(escaped(name.utf8)) is set by the container interface itself")
    }
    guard text.utf8.count < 128 << 10, value.utf8.allSatisfy({ !$0.isControl || $0 == 0x09 || $0 == 0x0a }) else {
      throw SpecError("variable", text, "no control characters but tab and newline, shorter than 128 KiB")
    }
    self.name = name
    self.value = value
  }

  /// Takes `NAME=VALUE`.
  ///
  /// - Parameter text: the variable, unquoted.
  /// - Throws: `SpecError` that says what is allowed.
  public init(_ text: String) throws(SpecError) {
    guard let (name, value) = text.cut(UInt8(ascii: "=")) else {
      throw SpecError("variable", text, "write NAME=VALUE")
    }
    try self.init(name: name, value: value)
  }

  /// `NAME=VALUE`, as `execve(2)` takes it.
  public var description: String { name + "=" + value }

  /// What PID 1 is told by other means, and would misread if it came from here.
  private static let reserved: Set<String> = [
    "container", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
  ]
}
