/// What one datagram on a notify socket says.
///
/// Any bytes give a value: what is no assignment is passed over, what is too much is dropped. `MAINPID=` and the
/// descriptor store are ignored, since a machine has no business naming processes or descriptors here.
public struct NotifyMessage: Sendable, Equatable {
  /// An assignment without a meaning of its own here.
  public struct Assignment: Sendable, Equatable {
    /// What is left of the first `=`.
    public var name: String
    /// What is right of it.
    public var value: String
  }

  /// `READY=1`: the boot is over.
  public var isReady = false
  /// `STOPPING=1`: the shutdown has begun.
  public var isStopping = false
  /// `RELOADING=1`: the configuration is being read again.
  public var isReloading = false
  /// `STATUS=`: one line for people.
  public var status: String?
  /// `ERRNO=`: the error number that ends the service.
  public var errno: Int32?
  /// `EXIT_STATUS=`: what the machine's PID 1 was told to exit with.
  public var exitStatus: UInt8?
  /// `X_SYSTEMD_UNIT_ACTIVE=`: units that have become active.
  public var activeUnits: [String] = []
  /// `X_SYSTEMD_UNIT_INACTIVE=`: units that have become inactive.
  public var inactiveUnits: [String] = []
  /// `X_SYSTEMD_SHUTDOWN=`: `poweroff`, `reboot`, `halt`, `exit`, …
  public var shutdown: String?
  /// `X_SYSTEMD_REBOOT_PARAMETER=`: the argument of a reboot.
  public var rebootParameter: String?
  /// `X_SYSTEMD_SIGNALS_LEVEL=`: which of systemd's signals PID 1 takes.
  public var signalsLevel: UInt32?
  /// `X_SYSTEMD_HOSTNAME=`: the machine's host name.
  public var hostname: String?
  /// `X_SYSTEMD_MACHINE_ID=`: the machine's id.
  public var machineID: String?
  /// `MEMORY_PRESSURE_WATCH=` and its like, and everything without a meaning here.
  public var others: [Assignment] = []

  /// How many bytes of one datagram are looked at.
  public static let sizeLimit = 8192
  /// How many assignments of one datagram are kept.
  public static let assignmentLimit = 128

  /// Reads one datagram.
  ///
  /// - Parameter bytes: the datagram; bytes that are no UTF-8 are replaced.
  public init(parsing bytes: some Sequence<UInt8>) {
    let text = Array(bytes.prefix(Self.sizeLimit))
    let lines = text.split(maxSplits: Self.assignmentLimit, omittingEmptySubsequences: true) { $0 == 0x0a }
    for line in lines.prefix(Self.assignmentLimit) {
      guard let equals = line.firstIndex(of: UInt8(ascii: "=")), equals > line.startIndex else { continue }
      take(
        String(decoding: line[..<equals], as: UTF8.self),
        String(decoding: line[(equals + 1)...], as: UTF8.self))
    }
  }

  private mutating func take(_ name: String, _ value: String) {
    switch name {
    case "READY": isReady = isReady || value == "1"
    case "STOPPING": isStopping = isStopping || value == "1"
    case "RELOADING": isReloading = isReloading || value == "1"
    case "STATUS": status = value
    case "ERRNO": errno = Int32(value).flatMap { (1...4095).contains($0) ? $0 : nil }
    case "EXIT_STATUS": exitStatus = UInt8(value)
    case "X_SYSTEMD_UNIT_ACTIVE": activeUnits.append(value)
    case "X_SYSTEMD_UNIT_INACTIVE": inactiveUnits.append(value)
    case "X_SYSTEMD_SHUTDOWN": shutdown = value
    case "X_SYSTEMD_REBOOT_PARAMETER": rebootParameter = value
    case "X_SYSTEMD_SIGNALS_LEVEL": signalsLevel = UInt32(value)
    case "X_SYSTEMD_HOSTNAME": hostname = value
    case "X_SYSTEMD_MACHINE_ID": machineID = value
    case "MAINPID", "MAINPIDFDID", "FDSTORE", "FDSTOREREMOVE", "FDNAME", "FDPOLL", "BARRIER": break
    default: others.append(Assignment(name: name, value: value))
    }
  }
}
