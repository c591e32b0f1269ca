import Linux
import Varlink

/// What there is to know of a machine that runs: `state.json`, void after a reboot of the host.
public struct MachineState: Sendable, Equatable {
  /// The host's boot that it belongs to.
  public var bootID: String
  /// The supervisor's process id.
  public var supervisor: Int32
  /// The machine's control group, with what is to be killed and removed should the supervisor be gone.
  public var cgroup: String?
  /// Its table in the host's packet filter, which is also the name of the host's end of its pair.
  public var filter: String?
  /// The leader's process id.
  public var leader: Int32?
  /// When the start began, in seconds since 1970.
  public var started: UInt64

  /// The state of a machine that is being started.
  public init(bootID: String, supervisor: Int32, started: UInt64) {
    self.bootID = bootID
    self.supervisor = supervisor
    self.started = started
  }

  /// The state as a JSON object.
  public var json: JSON {
    var object: JSON = [
      "bootID": .string(bootID), "supervisor": JSON(supervisor), "started": JSON(started),
    ]
    if let cgroup { object["cgroup"] = .string(cgroup) }
    if let filter { object["filter"] = .string(filter) }
    if let leader { object["leader"] = JSON(leader) }
    return object
  }

  /// Reads a state; nil when something is missing or of the wrong kind.
  public init?(json: JSON) {
    guard let bootID = json["bootID"]?.stringValue,
      let supervisor = json["supervisor"]?.intValue.flatMap({ Int32(exactly: $0) }),
      let started = json["started"]?.intValue.flatMap({ UInt64(exactly: $0) })
    else { return nil }
    self.init(bootID: bootID, supervisor: supervisor, started: started)
    cgroup = json["cgroup"]?.stringValue
    filter = json["filter"]?.stringValue
    leader = json["leader"]?.intValue.flatMap { Int32(exactly: $0) }
  }
}

/// The id of the host's present boot.
public func currentBootID() throws(Failure) -> String {
  let path = "/proc/sys/kernel/random/boot_id"
  let text = String(decoding: try Descriptor.open(path).readAll(subject: path), as: UTF8.self)
  return String(text.prefix { $0 != "\n" })
}
