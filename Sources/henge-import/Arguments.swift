import Archive
import Glibc
import Images
import Linux
import MachineSpec

/// What the command line asks for. It is taken apart by hand: only `hengectl` calls this program.
struct Arguments {
  enum Verb {
    case tar(file: String, name: ImageName)
    case directory(String, name: ImageName)
    /// For `PrivateUsersOwnership=chown`, and for its tests, which kill it.
    case shift(tree: String, IDShift, state: String)
  }

  static let usage = """
    usage: henge-import [--state DIR] [--keep-devices] [--squash-ids] [--max-entries N] [--max-bytes N] tar FILE NAME
           henge-import [--state DIR] [--keep-devices] [--squash-ids] fs DIR NAME
    FILE may be '-' for standard input. The state folder is DIR, or $HENGE_STATE_DIR, or the usual one.
    """

  var verb: Verb
  var state: String
  var options = TarImport.Options()

  init(_ arguments: [String]) throws(Failure) {
    var words: [String] = []
    var state: String?
    var rest = arguments.dropFirst()
    var isOption = true
    while let word = rest.popFirst() {
      guard isOption && word.hasPrefix("-") && word != "-" else {
        words.append(word)
        continue
      }
      switch word {
      case "--": isOption = false
      case "--state": state = try Self.value(of: word, &rest)
      case "--keep-devices": options.keepsDevices = true
      case "--squash-ids": options.squashesIDs = true
      case "--max-entries": options.maximumEntries = try Self.number(try Self.value(of: word, &rest), word)
      case "--max-bytes": options.maximumBytes = try Self.number(try Self.value(of: word, &rest), word)
      default: throw Failure("understand", word, "there is no such option", kind: .usage)
      }
    }
    switch (words.first, words.count) {
    case ("tar", 3): verb = .tar(file: words[1], name: try Self.name(words[2]))
    case ("fs", 3): verb = .directory(words[1], name: try Self.name(words[2]))
    case ("shift", 5), ("shift", 6):
      let from: UInt32 = try Self.number(words[2], "FROM")
      let to: UInt32 = try Self.number(words[3], "TO")
      let count: UInt32 = words.count == 6 ? try Self.number(words[5], "COUNT") : UIDRange.standardCount
      verb = .shift(tree: words[1], try IDShift(from: from, to: to, count: count), state: words[4])
    default:
      throw Failure(
        "understand", words.first ?? "the command line", "it is no verb with its arguments",
        advice: "use: tar FILE NAME, or fs DIR NAME", kind: .usage)
    }
    if let state {
      self.state = state
    } else {
      self.state = try Self.usualState()
    }
  }

  private static func name(_ text: String) throws(Failure) -> ImageName {
    do {
      return try ImageName(text)
    } catch {
      throw Failure("take the image name", text, error.reason, kind: .usage)
    }
  }

  private static func value(of option: String, _ rest: inout ArraySlice<String>) throws(Failure) -> String {
    guard let value = rest.popFirst(), !value.isEmpty else {
      throw Failure("understand", option, "it wants a value", kind: .usage)
    }
    return value
  }

  private static func number<T: FixedWidthInteger>(_ text: String, _ what: String) throws(Failure) -> T {
    guard let value = T(text) else {
      throw Failure("understand", what, "'\(text)' is not a number that it can be", kind: .usage)
    }
    return value
  }

  private static func usualState() throws(Failure) -> String {
    if let path = variable("HENGE_STATE_DIR") {
      if path.hasPrefix("/") { return path }
      throw Failure("use HENGE_STATE_DIR", path, "it is not an absolute path", kind: .usage)
    }
    if geteuid() == 0 { return "/var/lib/henge" }
    if let data = variable("XDG_DATA_HOME") { return data + "/henge" }
    if let home = variable("HOME") { return home + "/.local/share/henge" }
    throw Failure(
      "find the state folder", nil, "neither HENGE_STATE_DIR nor HOME is set", advice: "pass --state", kind: .usage)
  }

  private static func variable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }
}
