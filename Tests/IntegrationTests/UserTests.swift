import Glibc
import Linux
import Testing
import Varlink

/// Machines of ordinary users, without root anywhere.
@Suite("Ordinary users", .serialized)
struct UserTests {
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func everyGuestRunsForAUserWithADelegatedGroup() async throws {
    try await withUsers("users-matrix", ids: [131072]) { host in
      let user = try #require(host.users.first)
      for image in allGuests { try user.image(image) }
      let found = await twoAtATime(allGuests) { UsersBoot(image: $0, user: user).result() }
      try show(found)
      #expect(found.count == allGuests.count)
      #expect(names(in: "\(user.state)/machines").isEmpty && names(in: "\(user.state)/uid-ranges") == [".lock"])
      #expect(user.processes.isEmpty)
    }
  }

  /// Two users with two machines each, side by side: who has what rights where, and who reaches whom.
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func twoUsersWithTwoMachinesEachDoNotMeet() throws {
    try withUsers("users-apart", ids: [131072, 131072]) { host in
      var guests: [Guest] = []
      for user in host.users {
        try user.image("trixie")
        for machine in ["one", "two"] {
          try user.succeed("run", "trixie", machine)
          guests.append(try user.guest(machine))
        }
      }
      let ranges = guests.map { UIDRange(base: $0.uidBase) }
      for (index, range) in ranges.enumerated() {
        #expect(ranges[(index + 1)...].allSatisfy { !$0.overlaps(range) }, "\(ranges)")
        #expect(try guests[index].run("systemctl", "is-system-running").text == "running")
      }
      try lookAtRights(host)
      for user in host.users {
        for machine in ["one", "two"] {
          try user.succeed("exec", machine, "--", "systemd-cat", "-t", "test", "echo", "for \(machine)")
          try user.succeed("exec", machine, "--", "journalctl", "--sync")
          #expect(try user.succeed("journal", machine, "-t", "test", "-o", "cat") == "for \(machine)")
        }
      }
      let (first, second) = (host.users[0], host.users[1])
      #expect(try first.hengectl("list", "--json").json().arrayValue?.count == 2)
      let leader = guests[0].leader
      let control = "\(first.runtime)/henge/machines/one/control"
      #expect(access(control, F_OK) == 0)
      let supervisor = try #require(guests[0].state["supervisor"]?.intValue)
      for attempt in [
        "curl --silent --max-time 5 --unix-socket \(control) http://x/", "cat \(first.state)/machines/one/machine.json",
        "ls \(first.home)", "ls \(first.runtime)", "ls /proc/\(leader)/root/etc", "cat /proc/\(leader)/environ",
        "kill -9 \(leader)", "nsenter -t \(leader) -U true", "nsenter -t \(leader) -m true",
        "ls /proc/\(leader)/fd /proc/\(supervisor)/fd", "cat /proc/\(supervisor)/environ",
        "unshare --map-root-user kill -9 \(leader)", "unshare --map-root-user nsenter -t \(leader) -U true",
        "unshare --map-root-user nsenter -t \(supervisor) -m true",
        "HENGE_RUNTIME_DIR=\(first.runtime)/henge HENGE_STATE_DIR=\(first.state) \(host.programs)/hengectl status one",
        "echo 1 >\(first.group)/cgroup.kill", "echo $$ >\(first.group)/cgroup.procs",
      ] {
        let outcome = try second.run(["sh", "-c", attempt])
        #expect(!outcome.succeeded, "\(attempt): \(outcome)")
      }
      // Nor does a machine's root, whom the user gave the machine, reach the other machine of the same user.
      let inside = try IntegrationTests.run([
        "nsenter", "-t", "\(leader)", "-U", "-S", "0", "-G", "0", "sh", "-c", "kill -0 \(guests[1].leader)",
      ])
      #expect(!inside.succeeded, "\(inside)")
      #expect(try guests[0].run("systemctl", "is-system-running").text == "running", "and it lives on")
      for user in host.users {
        for machine in ["one", "two"] {
          try user.succeed("terminate", machine)
          try user.succeed("remove", machine)
        }
        #expect(user.processes.isEmpty)
      }
      #expect(host.sandbox.snapshot().groups.allSatisfy { !$0.contains("/henge-") })
    }
  }

  private func lookAtRights(_ host: UserHost) throws {
    let hosts = Host.namespace("self", "user")
    var withRights = 0
    for process in host.users.flatMap(\.processes) {
      for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        guard UInt64(Host.status(process, set) ?? "0", radix: 16) != 0 else { continue }
        withRights += 1
        let its = Host.namespace("\(process)", "user")
        #expect(its != nil && its != hosts, "\(process) has \(set) in the host's user namespace")
      }
    }
    // Supervisors and guests' roots; otherwise nothing was looked at.
    #expect(withRights >= 8)
    for program in names(in: host.programs) {
      var status = stat()
      #expect(lstat("\(host.programs)/\(program)", &status) == 0 && status.st_mode & 0o6000 == 0)
      #expect(try runWell(["getcap", "\(host.programs)/\(program)"]).isEmpty)
    }
  }

  /// What is missing is said in one line that names the command, and nothing is left.
  @Test(.needsRoot, .needsPrograms, .needsUsers)
  func whatIsMissingIsNamedWithItsRemedy() throws {
    try withUsers("users-refused", ids: [0, 65535, 65536]) { host in
      for user in host.users[..<2] {
        let outcome = try user.hengectl("list")
        #expect(outcome.code == 5 && outcome.errorLines.count == 1, "\(outcome)")
        #expect(outcome.errors.contains("sudo usermod --add-subuids "), "\(outcome)")
        #expect(outcome.errors.hasSuffix(" \(user.name)\n"), "\(outcome)")
        let doctor = try user.hengectl("doctor")
        #expect(doctor.code == 5 && doctor.output.contains("MISSING  subordinate ids: \(user.name) has"), "\(doctor)")
      }
      let user = host.users[2]
      let bare = try user.hengectl("list", script: "mount --bind /dev/null \(findProgram("newuidmap") ?? "")")
      #expect(bare.code == 5 && bare.errors.contains("sudo apt-get install uidmap"), "\(bare)")
      let homeless = try user.hengectl("list", runtimeFolder: false)
      #expect(homeless.code == 2 && homeless.errors.contains("set HENGE_RUNTIME_DIR"), "\(homeless)")
      let doctor = try user.hengectl("doctor")
      #expect(doctor.code == 0 && doctor.output.contains("enough for 1 machine\n"), "\(doctor)")
      let outside = try user.hengectl("doctor", isDelegated: false)
      #expect(outside.code == 5 && outside.output.contains("MISSING  delegated control group"), "\(outside)")
      #expect(user.processes.isEmpty)
    }
  }

  @Test(.needsRoot, .needsPrograms, .needsImages, .needsUsers)
  func aUsersMachineGoesTheWholeWay() throws {
    try withUsers("users-life", ids: [131072]) { host in
      let user = try #require(host.users.first)
      try user.image("trixie")
      try user.succeed("create", "-s", "Hostname=first", "trixie", "a")
      let outside = try user.hengectl("start", "a", isDelegated: false)
      #expect(outside.code == 5 && outside.errors.contains("is not ours to make groups in"), "\(outside)")
      #expect(try user.hengectl("start", "--no-wait", "a").succeeded)
      try user.succeed("wait", "a")
      let before = try user.guest("a")
      try before.succeed("touch", "/root/mark")
      // A capability on a file counts in the machine, though it was given in the user's namespace.
      #expect(try before.succeed("getcap", "/usr/bin/ping").hasSuffix("cap_net_raw=ep") || !before.has("/usr/bin/ping"))
      try user.succeed("reboot", "a")
      #expect(try user.guest("a").leader != before.leader)
      #expect(try user.guest("a").succeed("hostname") == "first")
      try user.succeed("poweroff", "a")

      try user.succeed("clone", "a", "b")
      try user.succeed("start", "b")
      #expect(try user.guest("b").run("test", "-e", "/root/mark").succeeded)
      let full = try user.hengectl("create", "trixie", "c")
      #expect(full.code == 5 && full.errors.contains("none of 65536 ids is free"), "\(full)")
      try user.succeed("terminate", "b")
      try user.succeed("remove", "b")
      try user.succeed("run", "--ephemeral", "-s", "Volatile=overlay", "trixie", "c")
      let guest = try user.guest("c")
      // A folder made again over one of the layer's must not show what was in that.
      #expect(try guest.shell("rm -r /usr/share/doc && mkdir /usr/share/doc && ls /usr/share/doc | wc -l").text == "0")
      try user.succeed("terminate", "c")
      #expect(try user.hengectl("list", "--json").json().arrayValue?.count == 1)

      try user.succeed("start", "a")
      guard let supervisor = try user.guest("a").state["supervisor"]?.intValue.flatMap({ Int32(exactly: $0) }) else {
        throw Complaint("no supervisor")
      }
      kill(supervisor, SIGKILL)
      #expect(try user.hengectl("list", "--json").json()[0]?["state"]?.stringValue == "stopped")
      try user.succeed("remove", "a")
      #expect(names(in: "\(user.state)/machines").isEmpty && names(in: "\(user.runtime)/henge/machines").isEmpty)
      #expect(host.sandbox.snapshot().groups.allSatisfy { !$0.contains("/henge-") } && user.processes.isEmpty)
    }
  }
}

extension Guest {
  fileprivate func has(_ path: String) throws -> Bool { try run("test", "-e", path).succeeded }
}

/// The way of a user's machine from nothing to nothing.
private struct UsersBoot {
  let image: String
  let user: TestUser
  var name: String { "m-\(image)" }
  /// One of the views is enough for each; both occur.
  var view: HostView { image == "trixie" || image == "monolith" ? .pure : .hybrid }

  func result() -> BootResult {
    var result = BootResult(image: image, host: "user", ownership: "copy")
    do {
      try user.succeed("create", image, name, view: view)
      let outcome = try user.hengectl("start", name, view: view, deadline: 180)
      result.secondsToRunning = outcome.seconds
      result.check("\(outcome)", outcome.code == 0 && outcome.text == "\(name) is running")
      let guest = try user.guest(name, view: view)
      result.check("\(guest.uidBase) is the user's", user.ids.contains(guest.uidBase))
      result.lookAtLeader(guest)
      let group = Host.cgroup(guest.leader) ?? ""
      result.check("\(group) is the user's", group.contains("/\(user.tag)\(user.name)/henge-\(name)-"))
      try result.lookAtUnits(guest)
      let started = now()
      try user.succeed("poweroff", name, view: view)
      result.secondsToStopped = Double(now() - started) / 1e9
      result.lookForRemains(guest)
      result.check("its cgroup is left", !names(in: user.group).contains { $0.hasPrefix("henge-\(name)-") })
    } catch {
      result.complaints.append("\(error)")
      _ = try? user.hengectl("terminate", name, view: view)
    }
    _ = try? user.hengectl("remove", name, view: view)
    return result
  }
}
