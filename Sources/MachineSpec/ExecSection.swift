/// How the journal of the machine is linked with the host's: `LinkJournal=`.
public enum LinkJournal: String, SpecKeyword, Hashable {
  /// Not at all.
  case no
  /// The host's folder is bound into the machine; it must be there or be made.
  case host
  /// As `host`, but passed over where the host keeps no journal.
  case tryHost = "try-host"
  /// The machine's folder is linked from the host's.
  case guest
  /// As `guest`, but passed over where the host keeps no journal.
  case tryGuest = "try-guest"
  /// As `host` where the host already has a folder for this machine id, else not at all.
  case auto
}

/// What becomes of the machine's `/etc/resolv.conf`: `ResolvConf=`, nspawn's words.
public enum ResolvConf: String, SpecKeyword, Hashable {
  /// Left alone.
  case off
  /// The host's file is copied, where the machine has none of its own kind.
  case copyHost = "copy-host"
  /// systemd-resolved's static file is copied.
  case copyStatic = "copy-static"
  /// systemd-resolved's list of uplink servers is copied.
  case copyUplink = "copy-uplink"
  /// systemd-resolved's stub file is copied.
  case copyStub = "copy-stub"
  /// As `copy-host`, but a symlink there is replaced.
  case replaceHost = "replace-host"
  /// As `copy-static`, but a symlink there is replaced.
  case replaceStatic = "replace-static"
  /// As `copy-uplink`, but a symlink there is replaced.
  case replaceUplink = "replace-uplink"
  /// As `copy-stub`, but a symlink there is replaced.
  case replaceStub = "replace-stub"
  /// The host's file is bound over the machine's.
  case bindHost = "bind-host"
  /// systemd-resolved's static file is bound over the machine's.
  case bindStatic = "bind-static"
  /// systemd-resolved's list of uplink servers is bound over the machine's.
  case bindUplink = "bind-uplink"
  /// systemd-resolved's stub file is bound over the machine's.
  case bindStub = "bind-stub"
  /// The machine's file is removed.
  case delete
  /// What fits the machine's network mode.
  case auto
}

/// What becomes of the machine's `/etc/localtime`: `Timezone=`.
public enum TimezoneMode: String, SpecKeyword, Hashable {
  /// Left alone.
  case off
  /// The host's file is copied.
  case copy
  /// The host's file is bound over the machine's.
  case bind
  /// A symlink as the host's is made.
  case symlink
  /// The machine's file is removed.
  case delete
  /// A symlink, or a copy where the machine lacks the zone.
  case auto
}

/// `[Exec]`: what PID 1 may do, is told, and how it is stopped.
public struct ExecSection: Equatable, Sendable {
  /// `Capability=`: capabilities kept beyond the default set. Repeated keys add. Default none.
  public var capability: CapabilitySet = []
  /// `DropCapability=`: capabilities taken away, after `Capability=`. Repeated keys add. Default none.
  public var dropCapability: CapabilitySet = []
  /// `LoadCredential=`: credentials from files of the host. Repeated keys add, a later name replaces.
  public var loadCredentials: [LoadedCredential] = []
  /// `SetCredential=`: credentials written out here. Repeated keys add, a later name replaces. A name that
  /// `LoadCredential=` also has is used only when its file does not exist, as in systemd.
  public var setCredentials: [LiteralCredential] = []
  /// `LinkJournal=`: default auto.
  public var linkJournal: LinkJournal = .auto
  /// `ResolvConf=`: default auto.
  public var resolvConf: ResolvConf = .auto
  /// `Timezone=`: default auto.
  public var timezone: TimezoneMode = .auto
  /// `KillSignal=`: what asks PID 1 to power off; nil asks systemd over its bus and then with SIGRTMIN+4.
  public var killSignal: Signal?
  /// `TimeoutStopSec=`: how long a power-off may take before everything is killed. Default 90 s, 0 is no limit.
  public var timeoutStop: TimeSpan = TimeSpan(seconds: 90)

  /// The defaults.
  public init() {}

  static let keys: [SpecKey] = [
    .union("Capability", \.exec.capability),
    .union("DropCapability", \.exec.dropCapability),
    .list("LoadCredential", \.exec.loadCredentials) { $0.name == $1.name },
    .list("SetCredential", \.exec.setCredentials) { $0.name == $1.name },
    .value("LinkJournal", \.exec.linkJournal),
    .value("ResolvConf", \.exec.resolvConf),
    .value("Timezone", \.exec.timezone),
    .optional("KillSignal", \.exec.killSignal),
    .custom(
      "TimeoutStopSec", \.exec.timeoutStop,
      parse: { (text: String) throws(SpecError) -> TimeSpan in
        let span = try TimeSpan(text)
        return span.microseconds == 0 ? .infinity : span
      }, print: \.description),
  ]
}
