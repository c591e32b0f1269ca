import Linux
import TreeStream

/// The command line of one end of a copy: `copy VERB [OPTION…] [--] [PATH…]`, which only `hengectl` writes. The stream is
/// descriptor 3.
struct CopyArguments {
  enum Verb: String {
    /// Files and trees of the host to the stream.
    case send
    /// An archive on standard input to the stream.
    case sendTar = "send-tar"
    /// The stream to the host.
    case receive
    /// The stream to an archive on standard output.
    case receiveTar = "receive-tar"
    /// Removes what a killed `receive` left.
    case sweep
  }

  let verb: Verb
  var policy = TreePolicy()
  var destination = Destination.Options()
  /// How long the machine's end may do nothing, in milliseconds.
  var patience: Int32 = -1
  var paths: [String] = []

  /// - Returns: nil when the command line is about something else.
  init?(_ arguments: [String]) throws(Failure) {
    var rest = arguments.dropFirst()
    guard rest.popFirst() == "copy" else { return nil }
    guard let verb = rest.popFirst().flatMap(Verb.init) else {
      throw Failure("copy", nil, "there is no such verb", kind: .usage)
    }
    self.verb = verb
    // What comes out of a machine is not trusted with anything.
    policy.keepsPrivileges = verb == .send || verb == .sendTar
    while let word = rest.popFirst() {
      switch word {
      case "--squash-ids": policy.squashesIDs = true
      case "--skip-special": policy.skipsSpecial = true
      case "--keep-privileges": policy.keepsPrivileges = true
      case "--force": destination.replaces = true
      case "--mkdir": destination.makesFolders = true
      case "--exact": destination.isExact = true
      case "--folder": destination.isFolder = true
      case "--patience": patience = rest.popFirst().flatMap { Int32($0) } ?? -1
      case "--":
        paths += rest
        rest = []
      default: throw Failure("understand", word, "there is no such option", kind: .usage)
      }
    }
    let isTar = verb == .sendTar || verb == .receiveTar
    guard isTar == paths.isEmpty, verb == .send || paths.count <= 1 else {
      throw Failure("copy", nil, "the paths do not fit the verb", kind: .usage)
    }
  }
}
