import Glibc
import Linux
import Testing
import Varlink

/// Every guest as a machine of a machine's.
@Suite("Nested boot matrix", .serialized)
struct NestedMatrixTests {
  @Test(.needsRoot, .needsPrograms, .needsImages)
  func everyGuestRunsInAMachine() async throws {
    try await withSandbox("nested-matrix") { sandbox in
      let outer = sandbox.name("outer")
      let nest = try Nest.first(in: sandbox, outer, ids: "3x65536", images: allGuests)
      try nest.supply(allGuests)
      let around = try nest.ids()
      let found = await twoAtATime(allGuests) { NestedBoot(image: $0, nest: nest, around: around).result() }
      try show(found)
      #expect(found.count == allGuests.count)
      #expect(try nest.hengectl("list", "--json").json().arrayValue?.isEmpty == true)
      try sandbox.succeed("terminate", outer)
      #expect(Host.processes(ofUIDs: around).isEmpty)
      #expect(sandbox.snapshot().groups.isEmpty)
    }
  }
}

/// The way of a machine in a machine from nothing to nothing.
private struct NestedBoot {
  let image: String
  let nest: Nest
  /// The ids of the machine around it.
  let around: ClosedRange<UInt32>
  var name: String { "in-\(image)" }

  func result() -> BootResult {
    var result = BootResult(image: image, host: "nested")
    do {
      try nest.succeed("create", "-s", "Network.Mode=none", image, name, deadline: 240)
      let outcome = try nest.hengectl("start", name, deadline: 240)
      result.secondsToRunning = outcome.seconds
      result.check("\(outcome)", outcome.code == 0 && outcome.text == "\(name) is running")
      let inner = try nest.inside(name)
      let ids = try inner.ids()
      let guest = Guest(leader: inner.leader, uidBase: ids.lowerBound, state: .null)
      // Cut from the outer machine's, beyond those that its own users are from.
      result.check("\(ids) are 65536 of \(around)", ids.count == 65536 && around.contains(ids.upperBound))
      result.check("\(ids) are apart from its own", ids.lowerBound >= around.lowerBound + 65536)
      result.lookAtLeader(guest)
      for kind in ["user", "mnt", "pid", "net", "cgroup"] {
        let (outers, its) = (Host.namespace("\(nest.leader)", kind), Host.namespace("\(guest.leader)", kind))
        result.check("\(kind) namespace: \(its ?? "none") is the outer one's", outers != nil && outers != its)
      }
      let (outers, group) = (Host.cgroup(nest.leader) ?? "-", Host.cgroup(guest.leader) ?? "")
      // The outer one's systemd is in a group below the machine's payload.
      let payload = outers.components(endingWith: "payload")
      result.check("\(group) is in \(payload)", group.hasPrefix("\(payload)/") && group.contains("/henge-\(name)-"))
      try result.lookAtUnits(guest)
      let started = now()
      _ = try guest.run("systemctl", "poweroff")
      try nest.succeed("wait", name, "--for", "stopped", "--timeout", "100")
      result.secondsToStopped = Double(now() - started) / 1e9
      result.lookForRemains(guest)
    } catch {
      result.complaints.append("\(error)")
      _ = try? nest.hengectl("terminate", name)
    }
    _ = try? nest.hengectl("remove", name)
    return result
  }
}

extension String {
  /// A path up to and with the first component of this name; all of it where there is none.
  fileprivate func components(endingWith name: String) -> String {
    let parts = split(separator: "/")
    guard let index = parts.firstIndex(of: name[...]) else { return self }
    return "/" + parts[...index].joined(separator: "/")
  }
}
