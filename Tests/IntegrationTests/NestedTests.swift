import Glibc
import Linux
import Testing
import Varlink

/// Machines inside of machines: the same programs, run by the root of a machine.
@Suite("Nested", .serialized)
struct NestedTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func machinesRunThreeDeepWithIDsOfTheOuterOnes() throws {
    try withSandbox("nested") { sandbox in
      let outer = sandbox.name("outer")
      let first = try Nest.first(in: sandbox, outer, ids: "5x65536")
      try first.supply()
      try first.succeed("create", "-s", "IDs=3x65536", "-s", "Network.Mode=none", "-s", Nest.bind, "trixie", "middle")
      try first.succeed("start", "middle")
      let second = try first.inside("middle")
      try second.supply()
      try second.succeed("create", "-s", "Network.Mode=none", "-s", Nest.bind, "trixie", "inner")
      try second.succeed("start", "inner")
      let third = try second.inside("inner")

      var around: ClosedRange<UInt32>?
      var seen: [ClosedRange<UInt32>] = []
      for (nest, count) in [(first, UInt32(5)), (second, 3), (third, 1)] {
        #expect(try nest.run("systemctl", "is-system-running").text == "running", "\(nest)")
        #expect(try nest.run("systemctl", "--failed", "--plain", "--no-legend").text == "", "\(nest)")
        let ids = try nest.ids()
        #expect(ids.count == Int(count) * 65536, "\(ids)")
        // Cut from the outer range, beyond the ids that the outer machine's own users are from.
        if let around {
          #expect(around.contains(ids.lowerBound) && around.contains(ids.upperBound), "\(ids) of \(around)")
          #expect(ids.lowerBound >= around.lowerBound + 65536)
        }
        around = ids
        seen.append(ids)
      }
      // Nor does the middle one's root get hold of an id that is not the machine's.
      #expect(try second.run("chown", "196607:196607", "/srv").succeeded)
      let foreign = try second.run("chown", "196608:196608", "/srv")
      #expect(!foreign.succeeded, "\(foreign)")
      let full = try third.hengectl("create", "--in-place", "/srv", "more")
      #expect(full.code == 5 && full.errors.contains("IDs= in its spec"), "\(full)")

      try second.succeed("poweroff", "inner")
      try second.succeed("start", "inner")
      #expect(try second.inside("inner").run("systemctl", "is-system-running").text == "running")
      // All that runs in the middle goes with it, and with the outer one all that there is.
      try first.succeed("terminate", "middle")
      #expect(Host.processes(ofUIDs: seen[1]).isEmpty)
      // The outer one's systemd has it shut down in good order on its own way down.
      try first.succeed("start", "middle")
      let down = try sandbox.hengectl("poweroff", outer)
      #expect(down.succeeded && down.seconds < 30, "\(down)")
      #expect(Host.processes(ofUIDs: seen[0]).isEmpty)
      #expect(sandbox.snapshot().groups.isEmpty)
      try sandbox.succeed("remove", outer)
    }
  }
}

/// A machine in which henge is used: its programs, and what is to be said to come into it.
private struct Nest: CustomStringConvertible {
  static let bind = "BindReadOnly=/opt/henge"
  static let imageFile = "trixie.tar"

  /// The leader, as the host numbers it.
  let leader: Int32
  let depth: Int

  var description: String { "machine \(depth) deep" }

  /// Makes and starts a machine of the host's with the programs in it, the libraries that no guest has, and an archive.
  static func first(in sandbox: Sandbox, _ name: String, ids: String) throws -> Nest {
    try sandbox.image("trixie")
    let folder = "\(sandbox.folder)/opt"
    try check(mkdir(folder, 0o755), "make", folder)
    for program in ["hengectl", "henge-supervisor", "henge-stage", "henge-import"] {
      try runWell(["install", "-m", "0755", "\(Checkout.programs)/\(program)", folder])
    }
    for line in try runWell(["ldd", "\(folder)/henge-import"]).split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count > 2, words[1] == "=>", words[2].hasPrefix("/") else { continue }
      try runWell(["install", "-D", "-m", "0644", "-t", "\(folder)/lib", String(words[2])])
    }
    try runWell(["cp", try Checkout.archive("trixie"), "\(folder)/\(imageFile)"])
    try sandbox.succeed(
      "create", "-s", "IDs=\(ids)", "-s", "BindReadOnly=\(folder):/opt/henge", "trixie", name)
    try sandbox.succeed("start", name)
    return Nest(leader: try sandbox.guest(name).leader, depth: 1)
  }

  /// Gives the machine the libraries that it lacks, and an image.
  func supply() throws {
    let script = """
      set -e
      for file in /opt/henge/lib/*; do
        ldconfig -p | grep -q "^\t${file##*/} " || cp "$file" /usr/local/lib
      done
      ldconfig
      """
    let outcome = try run("sh", "-c", script)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    try succeed("import-tar", "/opt/henge/\(Self.imageFile)", "trixie")
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
