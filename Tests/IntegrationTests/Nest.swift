import Glibc
import Linux
import Testing

/// A machine in which henge is used: its programs, and what is to be said to come into it.
struct Nest: CustomStringConvertible, Sendable {
  /// What gives a machine in it the programs and archives as well.
  static let bind = "BindReadOnly=/opt/henge"

  /// A script that copies the libraries which a guest lacks.
  static let libraries = """
    set -e
    for file in /opt/henge/lib/*; do
      ldconfig -p | grep -q "^\t${file##*/} " || cp "$file" /usr/local/lib
    done
    ldconfig
    """

  /// The leader, as the host numbers it.
  let leader: Int32
  let depth: Int

  var description: String { "machine \(depth) deep" }

  /// Puts the programs, the libraries that no guest has, and archives into a folder for machines to use.
  static func fill(_ folder: String, images: [String]) throws {
    try check(mkdir(folder, 0o755), "make", folder)
    for program in ["hengectl", "henge-supervisor", "henge-stage", "henge-import"] {
      try runWell(["install", "-m", "0755", "\(Checkout.programs)/\(program)", folder])
    }
    for line in try runWell(["ldd", "\(folder)/henge-import"]).split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count > 2, words[1] == "=>", words[2].hasPrefix("/") else { continue }
      try runWell(["install", "-D", "-m", "0644", "-t", "\(folder)/lib", String(words[2])])
    }
    for image in images {
      // The cache may lie on another disk than the tests' folders.
      let script = "ln \"$1\" \"$2\" 2>/dev/null || cp \"$1\" \"$2\""
      try runWell(["sh", "-c", script, "sh", try Checkout.archive(image), "\(folder)/\(image).tar"])
    }
  }

  /// Makes and starts a machine of the host's that can have machines.
  static func first(in sandbox: Sandbox, _ name: String, ids: String, images: [String] = ["trixie"]) throws -> Nest {
    try sandbox.image("trixie")
    let folder = "\(sandbox.folder)/opt"
    try fill(folder, images: images)
    try sandbox.succeed(
      "create", "-s", "IDs=\(ids)", "-s", "BindReadOnly=\(folder):/opt/henge", "trixie", name)
    try sandbox.succeed("start", name)
    return Nest(leader: try sandbox.guest(name).leader, depth: 1)
  }

  /// Gives the machine the libraries that it lacks, and images.
  func supply(_ images: [String] = ["trixie"]) throws {
    let outcome = try run("sh", "-c", Self.libraries)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    for image in images { try succeed("import-tar", "/opt/henge/\(image).tar", image) }
  }

  /// A running machine in this one.
  func inside(_ name: String) throws -> Nest {
    // What the host sees of it is the process that is number 1 that many namespaces further in, in the machine's group.
    let found = Host.processes.filter { process in
      guard let numbers = Host.status(process, "NSpid")?.split(separator: "\t") else { return false }
      return numbers.count == depth + 2 && numbers.last == "1"
        && (Host.cgroup(process)?.contains("/henge-\(name)-") ?? false)
    }
    guard let leader = found.first, found.count == 1 else { throw Complaint("\(found) are leaders of \(name)") }
    return Nest(leader: leader, depth: depth + 1)
  }

  /// The ids that it has of the host's.
  func ids() throws -> ClosedRange<UInt32> {
    let map = (read("/proc/\(leader)/uid_map") ?? "").split(separator: " ")
    guard map.count == 3, map[0] == "0", let base = UInt32(map[1]), let count = UInt32(trimmed(String(map[2]))) else {
      throw Complaint("\(self) has the map \(map)")
    }
    return base...base + count - 1
  }

  /// Runs a program in the machine as its root.
  func run(_ arguments: String..., deadline: Double = 120) throws -> Outcome { try run(arguments, deadline: deadline) }

  private func run(_ arguments: [String], deadline: Double) throws -> Outcome {
    try IntegrationTests.run(["nsenter", "-t", "\(leader)", "-a"] + arguments, deadline: deadline)
  }

  /// Runs hengectl in the machine, as a service of it: who just joined a machine is in none of its control groups.
  func hengectl(_ arguments: String..., deadline: Double = 120) throws -> Outcome {
    try hengectl(arguments, deadline: deadline)
  }

  private func hengectl(_ arguments: [String], deadline: Double = 120) throws -> Outcome {
    try run(
      ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "/opt/henge/hengectl"] + arguments,
      deadline: deadline)
  }

  @discardableResult
  func succeed(_ arguments: String..., deadline: Double = 120) throws -> String {
    let outcome = try hengectl(arguments, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(self): \(outcome)") }
    return outcome.text
  }
}
