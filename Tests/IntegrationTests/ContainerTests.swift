import Glibc
import Linux
import Testing
import Varlink

/// Machines in a container of Podman's, which has ids of its own and is not privileged on the host.
@Suite("In a container", .serialized)
struct ContainerTests {
  @Test(.needsRoot, .needsPrograms, .needsImages, .needsPodman)
  func aMachineRunsInAContainerAndDoctorNamesWhatOthersLack() throws {
    try withSandbox("container") { sandbox in
      let container = try Container(in: sandbox)
      defer { container.stop() }
      // Nothing was given to it but its ids: each thing that it takes is named, with the option that gives it.
      try container.start([])
      try container.supply()
      let lacking = try container.hengectl("doctor")
      #expect(lacking.code == 5, "\(lacking)")
      for word in [
        "MISSING  container: of podman, without CAP_SYS_ADMIN, CAP_SYS_PTRACE", "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE", "MISSING  control groups: are mounted read-only",
        "mend: mount -o remount,bind,rw /sys/fs/cgroup",
      ] { #expect(lacking.output.contains(word), "\(word): \(lacking)") }
      container.stop()

      try container.start(["--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE"])
      try container.succeed("mount", "-o", "remount,bind,rw", "/sys/fs/cgroup")
      let enough = try container.hengectl("doctor")
      #expect(enough.code == 0 && !enough.output.contains("MISSING"), "\(enough)")
      try container.henge("import-tar", "/opt/henge/trixie.tar", "trixie")
      try container.henge("create", "-s", "Network.Mode=none", "trixie", "m")
      #expect(try container.henge("start", "m", deadline: 180) == "m is running")

      let guest = try container.guest("m")
      var result = BootResult(image: "trixie", host: "podman")
      result.lookAtLeader(guest)
      try result.lookAtUnits(guest)
      #expect(result.complaints.isEmpty, "\(result.complaints)")
      // Of the container's ids, beyond its own users', and in its control group.
      #expect(container.ids.contains(guest.uids.upperBound) && guest.uidBase >= container.ids.lowerBound + 65536)
      let group = Host.cgroup(guest.leader) ?? ""
      #expect(group.contains("/\(container.group)/") && group.contains("/henge-m-"), "\(group)")
      #expect(try container.henge("exec", "m", "--", "systemctl", "is-system-running") == "running")
      try container.henge("poweroff", "m")
      #expect(Host.processes(ofUIDs: guest.uids).isEmpty)
      try container.henge("start", "m", deadline: 180)
      // It goes with the container.
      container.stop()
      #expect(Host.processes(ofUIDs: container.ids).isEmpty)
    }
  }
}

/// A container whose root file system is the tree of a machine that never ran, with the machine's ids.
private struct Container {
  let sandbox: Sandbox
  let name: String
  let root: String
  let ids: ClosedRange<UInt32>
  /// The control group that the container's is in.
  var group: String { "\(sandbox.tag)pod" }

  init(in sandbox: Sandbox) throws {
    self.sandbox = sandbox
    name = sandbox.name("pod")
    try sandbox.image("trixie")
    try sandbox.succeed("create", "-s", "IDs=3x65536", "-s", "PrivateUsersOwnership=chown", "trixie", name)
    // To where the container's root may go.
    root = "\(sandbox.folder)/pod-tree"
    try check(chmod(sandbox.folder, 0o711), "open", sandbox.folder)
    try runWell(["mv", "\(sandbox.state)/machines/\(name)/root", root])
    var status = stat()
    guard lstat(root, &status) == 0, status.st_uid > 0 else { throw Complaint("\(root) has no ids of its own") }
    ids = status.st_uid...status.st_uid + 3 * 65536 - 1
    try Nest.fill("\(sandbox.folder)/opt", images: ["trixie"])
  }

  private func podman(_ arguments: [String], deadline: Double = 120) throws -> Outcome {
    try run(
      HostView.pure.prefix + [
        "podman", "--root", "\(sandbox.folder)/pod", "--runroot", "\(sandbox.folder)/pod-run", "--tmpdir",
        "\(sandbox.folder)/pod-tmp", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none",
      ] + arguments, deadline: deadline)
  }

  func start(_ options: [String]) throws {
    let outcome = try podman(
      [
        "run", "--detach", "--name", name, "--network=none", "--cgroupns=private", "--cgroup-parent=/\(group)",
        // What asks for no more than this host's own limits.
        "--pids-limit=-1", "--ulimit=nofile=1024:4096", "--ulimit=nproc=4096:4096",
        "--uidmap=0:\(ids.lowerBound):\(ids.count)", "--gidmap=0:\(ids.lowerBound):\(ids.count)",
        "--volume=\(sandbox.folder)/opt:/opt/henge:ro",
      ] + options + ["--rootfs", root, "sleep", "3600"])
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
  }

  func stop() { _ = try? podman(["rm", "--force", "--time=0", name]) }

  /// Gives it the libraries that the guest lacks.
  func supply() throws { try succeed("sh", "-c", Nest.libraries) }

  @discardableResult
  func succeed(_ arguments: String...) throws -> String {
    let outcome = try podman(["exec", name] + arguments)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  func hengectl(_ arguments: String..., deadline: Double = 120) throws -> Outcome {
    try podman(["exec", name, "/opt/henge/hengectl"] + arguments, deadline: deadline)
  }

  /// Runs hengectl in it, which must succeed.
  @discardableResult
  func henge(_ arguments: String..., deadline: Double = 120) throws -> String {
    let outcome = try podman(["exec", name, "/opt/henge/hengectl"] + arguments, deadline: deadline)
    guard outcome.succeeded else { throw Complaint("\(outcome)") }
    return outcome.text
  }

  /// A running machine in it, as the host sees it: process 1 of the second process namespace further in.
  func guest(_ machine: String) throws -> Guest {
    let found = Host.processes.filter { process in
      guard let numbers = Host.status(process, "NSpid")?.split(separator: "\t") else { return false }
      return numbers.count == 3 && numbers.last == "1"
        && (Host.cgroup(process).map { $0.contains("/\(group)/") && $0.contains("/henge-\(machine)-") } ?? false)
    }
    guard let leader = found.first, found.count == 1,
      let base = Host.status(leader, "Uid")?.split(separator: "\t").first.flatMap({ UInt32($0) })
    else { throw Complaint("\(found) are leaders of \(machine)") }
    return Guest(leader: leader, uidBase: base, state: .null)
  }
}

extension Trait where Self == ConditionTrait {
  /// For tests in a container.
  fileprivate static var needsPodman: Self {
    .enabled(
      if: findProgram("podman") != nil && findProgram("crun") != nil, "needs podman and crun (packages podman, crun)")
  }
}
