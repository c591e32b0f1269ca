import Glibc
import Linux

/// Where things are on disk.
public struct Places: Sendable, Equatable {
  /// Specs: `NAME.machine`, `NAME.machine.d/*.conf`.
  public var configuration: String
  /// Images and machines.
  public var state: String
  /// What a reboot of the host voids.
  public var runtime: String

  /// The three folders.
  public init(configuration: String, state: String, runtime: String) {
    self.configuration = configuration
    self.state = state
    self.runtime = runtime
  }

  /// The folders of whoever runs this: `HENGE_CONFIG_DIR`, `HENGE_STATE_DIR` and `HENGE_RUNTIME_DIR`, else the usual
  /// ones.
  ///
  /// - Throws: `Failure` for a folder that is not absolute, or a user without a home.
  public static func current() throws(Failure) -> Places {
    try find(isRoot: geteuid() == 0) { variable($0) }
  }

  /// The folders that are used where nothing says otherwise: the system's for root, the user's own for everybody else.
  public static func usual(isRoot: Bool) throws(Failure) -> Places { try find(isRoot: isRoot) { _ in nil } }

  private static func find(isRoot: Bool, _ given: (String) -> String?) throws(Failure) -> Places {
    let home = variable("HOME")
    func place(_ name: String, root: String, user: String?, from source: String) throws(Failure) -> String {
      guard let path = given(name) ?? (isRoot ? root : user) else {
        throw Failure(
          "find a place for", name, "neither it nor \(source) is set", advice: "set \(name)", kind: .usage)
      }
      guard path.hasPrefix("/") else {
        throw Failure("use \(name)", path, "it is not an absolute path", kind: .usage)
      }
      return path
    }
    return Places(
      configuration: try place(
        "HENGE_CONFIG_DIR", root: "/etc/henge",
        user: variable("XDG_CONFIG_HOME").map { $0 + "/henge" } ?? home.map { $0 + "/.config/henge" }, from: "HOME"),
      state: try place(
        "HENGE_STATE_DIR", root: "/var/lib/henge",
        user: variable("XDG_DATA_HOME").map { $0 + "/henge" } ?? home.map { $0 + "/.local/share/henge" }, from: "HOME"),
      runtime: try place(
        "HENGE_RUNTIME_DIR", root: "/run/henge",
        user: (variable("XDG_RUNTIME_DIR") ?? runtimeFolderOfLogin()).map { $0 + "/henge" },
        from: "XDG_RUNTIME_DIR, nor is there a /run/user/\(getuid()) of this user's,"))
  }

  /// What a login would have told: it leads to the user's own service manager as well.
  public static var loginEnvironment: [String] {
    guard variable("XDG_RUNTIME_DIR") == nil, let folder = runtimeFolderOfLogin() else { return [] }
    return ["XDG_RUNTIME_DIR=\(folder)"]
  }

  /// The folder that a login makes for a user, for programs that were started without what a login sets, by `su` or cron.
  /// Only one that is the user's alone: nowhere else in `/run` or `/tmp` is a name safe from other users.
  private static func runtimeFolderOfLogin() -> String? {
    let path = "/run/user/\(getuid())"
    guard let status = try? Descriptor.open(path, [.path, .directory, .noFollow]).status(), status.uid == getuid(),
      status.mode & 0o077 == 0
    else { return nil }
    return path
  }

  /// The environment that makes another program find the same folders.
  public var environment: [String] {
    ["HENGE_CONFIG_DIR=\(configuration)", "HENGE_STATE_DIR=\(state)", "HENGE_RUNTIME_DIR=\(runtime)"]
  }

  private static func variable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }
}

extension Descriptor {
  /// Opens a folder, made with mode 0700 together with those above it where they are missing.
  ///
  /// - Throws: `Failure` that names the folder.
  static func folder(_ path: String) throws(Failure) -> Descriptor {
    do {
      return try open(path, .directory)
    } catch {
      guard error.errno == .noSuchFileOrDirectory else { throw error }
    }
    var done = ""
    for part in path.split(separator: "/") {
      done += "/\(part)"
      if mkdir(done, 0o700) < 0, errno != EEXIST {
        throw Failure("make the folder", done, errno: .init(rawValue: errno))
      }
    }
    return try open(path, .directory)
  }
}
