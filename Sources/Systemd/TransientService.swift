/// A service that systemd makes by a call, and forgets when it has ended.
public struct TransientService: Sendable {
  /// Where one of its standard streams leads.
  public enum Stream: Sendable, Equatable {
    /// To the guest's own `/dev/null`.
    case null
    /// To an open file, which stays the caller's and must be open until the call has been made.
    case descriptor(Int32)
  }

  /// The unit's name, which ends in `.service`.
  public var name: String
  /// The text of `Description=`.
  public var description = ""
  /// The program, a path or a name that the system searches for, and its arguments from its own name on.
  public var program: String
  /// The arguments, the program's own name included. Nothing in them is expanded.
  public var arguments: [String]
  /// Standard input, output and error.
  public var streams: [Stream] = [.null, .null, .null]
  /// A user's name or number, to be looked up by that system; nil for its root.
  public var user: String?
  /// A group's name or number; nil for the user's own.
  public var group: String?
  /// A path, `~` for the user's home, with `-` before it for one that may be missing; nil for `/`.
  public var directory: String?
  /// `NAME=value`.
  public var environment: [String] = []
  /// The PAM service of a session.
  public var pamName: String?
  /// The path of its terminal, for the records of who is logged in.
  public var terminal: String?
  /// The mark of its record in utmp.
  public var utmpIdentifier: String?
  /// Whether only its main process is asked to end before all of it is killed.
  public var endsMainFirst = false
  /// How long it may take to come to its program, in microseconds: looking up a user, making a session.
  public var startTimeout: UInt64 = 25_000_000
  /// How long it has from being asked to end to being killed, in microseconds.
  public var stopTimeout: UInt64 = 3_000_000

  /// A service without any stream, as root.
  public init(name: String, program: String, arguments: [String]) {
    self.name = name
    self.program = program
    self.arguments = arguments
  }

  /// The path of a unit's object: what is neither letter nor digit is escaped.
  public static func objectPath(of unit: String) -> String {
    var path = "/org/freedesktop/systemd1/unit/"
    for (index, byte) in unit.utf8.enumerated() {
      let isLetter = (97...122).contains(byte) || (65...90).contains(byte)
      if isLetter || (index > 0 && (48...57).contains(byte)) {
        path.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16)
        path += "_" + (digits.utf8.count == 1 ? "0" : "") + digits
      }
    }
    return path
  }

  func append(to message: Message) throws(BusError) {
    try message.appendArray(of: "(sv)") { message throws(BusError) in
      func text(_ name: String, _ value: String?) throws(BusError) {
        guard let value else { return }
        try Self.property(name, "s", message) { message throws(BusError) in try message.append(value) }
      }
      func flag(_ name: String, _ value: Bool) throws(BusError) {
        try Self.property(name, "b", message) { message throws(BusError) in try message.append(value) }
      }
      try text("Description", description)
      // Its start is done when the program was executed: one that is not there is told from one that fails.
      try text("Type", "exec")
      try text("CollectMode", "inactive-or-failed")
      try text("KillMode", endsMainFirst ? "mixed" : "control-group")
      try flag("SendSIGHUP", true)
      // As a program expects to find it; services usually have it ignored.
      try flag("IgnoreSIGPIPE", false)
      for (name, time) in [("TimeoutStartUSec", startTimeout), ("TimeoutStopUSec", stopTimeout)] {
        try Self.property(name, "t", message) { message throws(BusError) in try message.append(time) }
      }
      try text("User", user)
      try text("Group", group)
      try text("WorkingDirectory", directory)
      try text("PAMName", pamName)
      try text("TTYPath", terminal)
      if let utmpIdentifier {
        try text("UtmpIdentifier", utmpIdentifier)
        try text("UtmpMode", "user")
      }
      if !environment.isEmpty {
        try Self.property("Environment", "as", message) { message throws(BusError) in try message.append(environment) }
      }
      for (name, stream) in zip(["StandardInput", "StandardOutput", "StandardError"], streams) {
        switch stream {
        case .null: try text(name, "null")
        case .descriptor(let number):
          try Self.property("\(name)FileDescriptor", "h", message) { message throws(BusError) in
            try message.append(descriptor: number)
          }
        }
      }
      try Self.property("ExecStartEx", "a(sasas)", message) { message throws(BusError) in
        try message.appendArray(of: "(sasas)") { message throws(BusError) in
          try message.appendStruct(of: "sasas") { message throws(BusError) in
            try message.append(program)
            try message.append(arguments)
            try message.append(["no-env-expand"])
          }
        }
      }
    }
  }

  private static func property(
    _ name: String, _ type: String, _ message: Message, _ value: (Message) throws(BusError) -> Void
  ) throws(BusError) {
    try message.appendStruct(of: "sv") { message throws(BusError) in
      try message.append(name)
      try message.appendVariant(of: type, value)
    }
  }
}

extension BusError {
  /// Whether a systemd refused a transient service because it is too old for one of its properties: most of them are
  /// not known to it, and of `Type=exec` it knows the name only.
  public var isOfUnknownProperty: Bool {
    switch name {
    case "org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.UnknownProperty": true
    case "org.freedesktop.DBus.Error.InvalidArgs":
      message.hasPrefix("Invalid") && message.hasSuffix("exec") && message.utf8.count < 64
    default: false
    }
  }
}

extension Manager {
  /// What a unit said of itself when something changed. What was not said is nil.
  public struct UnitChange: Sendable, Equatable {
    /// The object that changed.
    public var path: String
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`, …
    public var activeState: String?
    /// The number of the job that waits for it or runs; 0 for none.
    public var job: UInt32?
    /// The main process, as that system numbers it; 0 for none.
    public var mainProcess: UInt32?
    /// How the main process ended, a `CLD_…` of `waitid(2)`; 0 for not yet.
    public var mainCode: Int32?
    /// Its exit status, or the signal.
    public var mainStatus: Int32?
    /// `success`, or what was wrong.
    public var result: String?
    /// Its control group, from the system's own root on.
    public var controlGroup: String?
  }

  /// Makes a transient service and starts it. The method is `StartTransientUnit`.
  ///
  /// - Parameters:
  ///   - service: what to start; its open files are copied before this returns.
  ///   - completion: called when the job is queued, or was refused.
  @discardableResult
  public func start(
    _ service: TransientService, _ completion: @escaping (Result<Void, BusError>) -> Void
  ) -> BusCall {
    call(
      "StartTransientUnit",
      arguments: { message throws(BusError) in
        try message.append(service.name)
        try message.append("fail")
        try service.append(to: message)
        try message.appendArray(of: "(sa(sv))") { _ in }
      },
      completion: { completion($0.map { _ in }) })
  }

  /// Starts a unit that is there. The method is `StartUnit`.
  @discardableResult
  public func startUnit(_ unit: String, _ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    call(
      "StartUnit",
      arguments: { message throws(BusError) in
        try message.append(unit)
        try message.append("replace")
      },
      completion: { completion($0.map { _ in }) })
  }

  /// Asks whether it answers at all; whatever it had to tell before comes before the answer. The method is
  /// `org.freedesktop.DBus.Peer.Ping`.
  @discardableResult
  public func ping(_ completion: @escaping (Result<Void, BusError>) -> Void) -> BusCall {
    bus.call(
      Self.name, Self.path, "org.freedesktop.DBus.Peer", "Ping", timeout: timeout,
      completion: { completion($0.map { _ in }) })
  }

  /// Asks a service for what a change of it tells. The method is `org.freedesktop.DBus.Properties.GetAll`.
  public func service(_ path: String, _ completion: @escaping (Result<UnitChange, BusError>) -> Void) {
    func all(_ interface: String, _ change: UnitChange, _ next: @escaping (Result<UnitChange, BusError>) -> Void) {
      bus.call(
        Self.name, path, "org.freedesktop.DBus.Properties", "GetAll", timeout: timeout,
        arguments: { message throws(BusError) in try message.append(interface) },
        completion: { answer in
          next(
            answer.reading { message throws(BusError) in
              var change = change
              try Self.read(message, &change)
              return change
            })
        })
    }
    all("org.freedesktop.systemd1.Service", UnitChange(path: path)) { result in
      switch result {
      case .success(let change): all("org.freedesktop.systemd1.Unit", change, completion)
      case .failure: completion(result)
      }
    }
  }

  /// Hears of what changes in units. The signal is `PropertiesChanged`.
  ///
  /// - Parameters:
  ///   - isWanted: whether an object is looked at; of the others nothing is read.
  ///   - handler: called for each change, a service's own before those that every unit has.
  public func unitChanges(
    where isWanted: @escaping (String) -> Bool, _ handler: @escaping (UnitChange) -> Void
  ) throws(BusError) -> BusMatch {
    try bus.match(sender: Self.name, interface: "org.freedesktop.DBus.Properties", member: "PropertiesChanged") {
      message in
      var change = UnitChange(path: message.path)
      guard isWanted(change.path) else { return }
      // A signal of another shape is none of systemd's.
      do {
        try message.skip("s")
        try Self.read(message, &change)
        handler(change)
      } catch {}
    }
  }

  private static func read(_ message: Message, _ change: inout UnitChange) throws(BusError) {
    var found = change
    try message.readArray(of: "{sv}") { message throws(BusError) in
      try message.readEntry(of: "sv") { message throws(BusError) in
        func text() throws(BusError) -> String {
          try message.readVariant(of: "s") { message throws(BusError) in try message.readString(limit: 1024) }
        }
        func number() throws(BusError) -> Int32 {
          try message.readVariant(of: "i") { message throws(BusError) in try message.readInt32() }
        }
        switch try message.readString(limit: 64) {
        case "ActiveState": found.activeState = try text()
        case "Result": found.result = try text()
        case "ControlGroup": found.controlGroup = try text()
        case "MainPID":
          found.mainProcess = try message.readVariant(of: "u") { message throws(BusError) in try message.readUInt32() }
        case "ExecMainCode": found.mainCode = try number()
        case "ExecMainStatus": found.mainStatus = try number()
        case "Job":
          found.job = try message.readVariant(of: "(uo)") { message throws(BusError) in
            var id: UInt32 = 0
            try message.readStruct(of: "uo") { message throws(BusError) in
              id = try message.readUInt32()
              try message.skip("o")
            }
            return id
          }
        default: try message.skip("v")
        }
      }
    }
    change = found
  }
}
