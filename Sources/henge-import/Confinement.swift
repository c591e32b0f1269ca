import CLinux
import Linux

/// What the program keeps of its privileges before it reads a foreign byte.
enum Confinement {
  private enum Capability: UInt64 {
    /// To give files their owners.
    case chown = 0
    /// To work below folders that belong to the image's users, whatever their modes; and to read them (`fs`, `shift`).
    case dacOverride = 1
    /// To read what belongs to others.
    case dacReadSearch = 2
    /// To set modes, times and attributes of files that were given away already.
    case fowner = 3
    /// To keep set-id bits when the mode is set by somebody who is not in the file's group.
    case fsetid = 4
    /// For `trusted.` attributes, which only directories have that were layers of an overlay (`fs`).
    case sysAdmin = 21
    /// For device nodes and whiteouts.
    case mknod = 27
    /// For `security.capability`.
    case setfcap = 31
  }

  /// Drops everything else, for good.
  ///
  /// - Parameter needsTrusted: whether `trusted.` attributes are written: not from an archive.
  static func enter(needsTrusted: Bool) throws(Failure) {
    var keep: [Capability] = [.chown, .dacOverride, .fowner, .fsetid, .mknod, .setfcap]
    if needsTrusted { keep.append(.sysAdmin) }
    try confine(keep)
  }

  /// Keeps what one end of a copy takes.
  ///
  /// - Parameter keepsPrivileges: whether file capabilities are written.
  static func enter(forCopy verb: CopyArguments.Verb, keepsPrivileges: Bool) throws(Failure) {
    switch verb {
    case .send: try confine([.dacReadSearch])
    case .sendTar, .receiveTar: try confine([])
    case .receive: try confine([.chown, .dacOverride, .fowner, .fsetid] + (keepsPrivileges ? [.setfcap] : []))
    case .sweep: try confine([.dacOverride, .fowner])
    }
  }

  private static func confine(_ keep: [Capability]) throws(Failure) {
    let result = clinux_confine(keep.reduce(0) { $0 | 1 << $1.rawValue })
    if result < 0 { throw Failure("drop privileges", nil, "error \(-result)") }
  }
}
