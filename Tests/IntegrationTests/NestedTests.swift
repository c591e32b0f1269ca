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

  /// No root anywhere: the outer machine is an ordinary user's.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func aUsersMachineHasMachines() throws {
    try withUsers("users-nested", ids: [3 * 65536]) { host in
      let user = try #require(host.users.first)
      let folder = "\(host.sandbox.folder)/opt"
      try Nest.fill(folder, images: ["trixie"])
      try user.image("trixie")
      try user.succeed(
        "create", "-s", "IDs=3x65536", "-s", "Network.Mode=none", "-s", "BindReadOnly=\(folder):/opt/henge", "trixie",
        "outer")
      try user.succeed("start", "outer")
      let outer = Nest(leader: try user.guest("outer").leader, depth: 1)
      try outer.supply()
      let doctor = try outer.hengectl("doctor")
      #expect(doctor.code == 0 && !doctor.output.contains("MISSING"), "\(doctor)")
      for machine in ["one", "two"] {
        try outer.succeed("create", "-s", "Network.Mode=none", "trixie", machine)
        try outer.succeed("start", machine)
      }
      var ranges: [ClosedRange<UInt32>] = []
      for machine in ["one", "two"] {
        let inner = try outer.inside(machine)
        #expect(try inner.run("systemctl", "is-system-running").text == "running")
        ranges.append(try inner.ids())
        let ids = try inner.ids()
        #expect(user.ids.contains(ids.lowerBound) && user.ids.contains(ids.upperBound) && ids.count == 65536)
        let group = Host.cgroup(inner.leader) ?? ""
        #expect(group.contains("/\(user.tag)\(user.name)/henge-outer-"), "\(group)")
      }
      let own = try outer.ids().lowerBound
      #expect(!ranges[0].overlaps(ranges[1]) && !ranges[0].contains(own) && !ranges[1].contains(own))
      try outer.succeed("poweroff", "one")
      // What still runs goes with the outer one.
      let down = try user.hengectl("poweroff", "outer")
      #expect(down.succeeded && down.seconds < 30, "\(down)")
      #expect(user.processes.isEmpty)
      try user.succeed("remove", "outer")
    }
  }
}
