import Glibc

/// What the file `cgroup.events` of a control group says.
public struct CgroupEvents: Sendable, Equatable {
  /// Whether a process is in the group or below.
  public let isPopulated: Bool
  /// Whether all of them are stopped.
  public let isFrozen: Bool

  /// - Parameter text: the file's contents: lines of a word and 0 or 1.
  public init(_ text: some StringProtocol) {
    let lines = text.split(whereSeparator: \.isNewline)
    isPopulated = lines.contains { $0 == "populated 1" }
    isFrozen = lines.contains { $0 == "frozen 1" }
  }

  /// Reads it anew from where it is open, which has the kernel tell of the next change by `POLLPRI`.
  ///
  /// - Throws: what kept it from being read, as when the group is gone.
  public init(rereading events: Descriptor) throws(Failure) {
    try check(lseek(events.raw, 0, SEEK_SET), "read", "cgroup.events")
    self.init(String(decoding: try events.readAll(limit: 4096, subject: "cgroup.events"), as: UTF8.self))
  }
}
