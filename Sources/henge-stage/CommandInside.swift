import CLinux
import Glibc
import Linux
import StageProtocol

private let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

private func places(of program: String) -> [String] {
  program.contains("/") ? [program] : searchPath.split(separator: ":").map { "\($0)/\(program)" }
}

/// Whether there is a program of that name, or at that path, which the machine's root may execute.
func canExecute(_ program: String) -> Bool {
  places(of: program).contains { place in
    var status = stat()
    return stat(place, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(place, X_OK) == 0
  }
}

/// Becomes a command of the operator's, as the machine's init would start it. All paths are the machine's, followed
/// inside it. That it was executed shows by the end of the channel; the code of a failure is a shell's.
func become(_ command: JoinedCommand, channel: Channel) throws(Failure) {
  do throws(Failure) {
    let account = try Account(command.user)
    if command.hasTerminal {
      try check(clinux_take_terminal(), "take", "the terminal")
    } else {
      try check(setsid(), "make", "a session")
    }
    umask(0o022)
    let groups = account.groups
    try check(
      clinux_become_user(account.uid, account.gid, groups, Int32(groups.count)), "become", "user \(command.user)")
    let home = command.isSession && command.directory.isEmpty
    let directory = home ? account.home : command.directory.isEmpty ? "/" : command.directory
    if chdir(directory) < 0, !home || chdir("/") < 0 {
      throw Failure("use the directory", directory, errno: .init(rawValue: errno))
    }
    let environment =
      [
        "PATH=\(searchPath)", "HOME=\(account.home)", "USER=\(account.name)", "LOGNAME=\(account.name)",
        "SHELL=\(account.shell)",
      ] + command.environment
    var arguments = command.arguments
    var program = arguments.first ?? account.shell
    if arguments.isEmpty {
      program = account.shell
      arguments = ["-" + (account.shell.split(separator: "/").last.map(String.init) ?? "sh")]
    }
    clinux_reset_signals()
    try check(clinux_close_range(3, true), "close descriptors")
    var number = ENOENT
    for place in places(of: program) {
      _ = withCStrings(arguments) { list in withCStrings(unique(environment)) { clinux_execute(place, list, $0) } }
      if errno != ENOENT && errno != ENOTDIR { number = errno }
    }
    throw Failure("execute", program, errno: .init(rawValue: number))
  } catch {
    channel.report(error)
    exit(error.errno == .noSuchFileOrDirectory && error.operation == "execute" ? 127 : 126)
  }
}

/// Each name once: what comes later counts more.
private func unique(_ environment: [String]) -> [String] {
  var seen: Set<Substring> = []
  return environment.reversed().filter { seen.insert($0.prefix { $0 != "=" }).inserted }.reversed()
}

/// A user as the machine's own files have it.
private struct Account {
  var name: String
  var uid: UInt32 = 0
  var gid: UInt32 = 0
  var home = "/"
  var shell = "/bin/sh"
  var groups: [UInt32] = []

  init(_ user: String) throws(Failure) {
    name = user
    let number = UInt32(user)
    let found = Self.lines("/etc/passwd").first { $0.count >= 7 && ($0[0] == user || number.map(String.init) == $0[2]) }
    if let found, let uid = UInt32(found[2]), let gid = UInt32(found[3]) {
      name = found[0]
      self.uid = uid
      self.gid = gid
      if !found[5].isEmpty { home = found[5] }
      if !found[6].isEmpty { shell = found[6] }
    } else if user == "root" || user == "0" {
      home = "/root"
    } else if let number {
      (uid, gid) = (number, number)
    } else {
      throw Failure("become", "user \(user)", "there is no such user in the machine")
    }
    let own = name
    groups = Self.lines("/etc/group").filter { $0.count >= 4 && $0[3].split(separator: ",").contains(Substring(own)) }
      .compactMap { UInt32($0[2]) }
    groups = Array(([gid] + groups).prefix(256))
  }

  /// Fields of a file, which may be anything: a pipe that nobody writes to must not be waited for.
  private static func lines(_ path: String) -> [[String]] {
    guard let file = try? Descriptor.open(path, [.read, .nonBlocking]),
      (try? file.status().kind) == .regular, let bytes = try? file.readAll(limit: 4 << 20, subject: path)
    else { return [] }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
      $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
  }
}
