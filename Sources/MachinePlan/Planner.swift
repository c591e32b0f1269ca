import MachineSpec
import StageProtocol

extension MachinePlan {
  /// Decides how a machine is started. A pure function: the same spec, host and machine give the same plan.
  ///
  /// - Parameters:
  ///   - spec: what the operator asked for.
  ///   - host: what this host allows.
  ///   - machine: what the store knows of the machine.
  /// - Throws: `PlanError` when the spec asks for what this host or this machine cannot have.
  public init(spec: Spec, host: HostFacts, machine: MachineFacts) throws(PlanError) {
    var planner = Planner(spec: spec, host: host, machine: machine)
    try planner.checkHost()
    try planner.decideLimits()
    let root = try planner.root()
    let journal = try planner.journalFolder()
    let steps = planner.hostSteps(root, journal: journal)
    planner.operations = [.isolateMounts, .root(root.source, readOnly: root.isReadOnly)]
    let network = try planner.planNetwork()
    planner.checkInit()
    planner.makeSkeleton()
    planner.showHostsSysfs()
    planner.makeDevices()
    planner.makeHostFolder()
    planner.leaveOutIdleGenerators()
    planner.makeCredentials()
    planner.shapeEtc()
    planner.shapeNetwork(network)
    if let journal { planner.bindJournal(journal) }
    planner.makeOperatorsMounts()
    planner.operations.append(.sealMount("/run/host"))
    // After the last look at the host's own.
    if host.coversKernel { planner.operations.append(.showKernel) }
    planner.operations += [
      .enterNamespaces(sharesNetwork: planner.sharesNetwork), .hostname(planner.hostname), .adoptRoot,
    ]
    planner.mountKernel()
    planner.operations.append(.pivot)
    // While this is still all of the machine's root, who may do that without giving up new privileges.
    if network.handOff { planner.operations.append(.watchConnections) }
    planner.operations.append(.confine(dropped: planner.droppedCapabilities))
    var stage = StagePlan(
      name: machine.name.description, rootID: machine.rootID, mountPoint: machine.mountPoint,
      operations: planner.operations,
      candidates: Planner.initCandidates, arguments: planner.initArguments, environment: planner.environment)
    network.passSockets(to: &stage)
    self.init(hostSteps: steps, stage: stage, network: network, warnings: planner.warnings)
  }
}

/// A plan in the making. The operations that it appends in each file follow each other in the order of `MachinePlan`'s
/// initializer, which is the order that the kernel needs: what the machine must not undo comes before
/// `enterNamespaces`, what shows its own namespaces after it.
struct Planner {
  let spec: Spec
  let host: HostFacts
  let machine: MachineFacts
  var operations: [SetupOperation] = []
  var warnings: [String] = []
  /// The folder of the group that the machine's own is made in.
  var place = ""
  /// What the machine's group gets of that one's controllers.
  var controllers: [String] = []
  var limits: [Limit] = []

  static let initCandidates = ["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"]

  var hostname: String { spec.machine.hostname?.description ?? machine.name.description }

  func checkHost() throws(PlanError) {
    if host.cgroup.layout == .missing {
      throw PlanError(
        "control groups of version 2 are not mounted on this host",
        advice: "mount -t cgroup2 none /sys/fs/cgroup", isHostsFault: true)
    }
    if host.privilege == .user {
      throw PlanError(
        "it takes root, or an ordinary user's own namespace", advice: "start it by hengectl", isHostsFault: true)
    }
    if !host.cgroup.isOurs, host.cgroup.isReadOnly {
      throw PlanError(
        "the control groups at \(host.cgroup.mount) are mounted read-only",
        advice: "mount -o remount,bind,rw \(host.cgroup.mount), or see 'hengectl doctor'", isHostsFault: true)
    }
    if !host.cgroup.isOurs {
      throw PlanError(
        "the control group \(host.cgroup.own) is not ours to make groups in",
        advice:
          "start it where the user's own systemd runs, or from a group that was given to the user: 'hengectl doctor'",
        isHostsFault: true)
    }
    guard spec.machine.boot else {
      throw PlanError("Boot=no asks for a machine without an init", advice: "set Boot=yes")
    }
  }

  func hostSteps(_ root: PlannedRoot, journal: String?) -> [HostStep] {
    var steps: [HostStep] = []
    if let shift = root.shift { steps.append(shift) }
    if let scratch = root.scratch { steps.append(scratch) }
    if let journal { steps.append(.journalFolder(path: journal, owner: machine.rootID)) }
    steps.append(
      .cgroup(
        CgroupPlan(
          parent: place, name: groupName, keeper: host.cgroup.keeper, mount: host.cgroup.mount,
          title: "Machine \(machine.name)", delegate: machine.rootID, delegatedFiles: host.cgroup.delegatedFiles,
          // Far above what any system needs, far below what would hurt the host: every group costs kernel memory.
          maxDepth: 64, maxDescendants: 16384, home: host.cgroup.own,
          controllers: controllers, limits: limits)))
    steps.append(.userNamespace(base: machine.rootID, count: machine.idCount))
    return steps
  }

  /// Another installation on this host may have a machine of the same name, but not of the same id.
  private var groupName: String {
    let name = "henge-\(machine.name)-\(machine.uuid.plain.prefix(8))"
    return switch host.cgroup.keeper {
    case .nobody: name
    case .scope: "\(name).scope"
    case .service(let service): service
    }
  }

  /// What `hostname` says already decides unless the image has an `/etc/hostname`; a name in the spec decides over that
  /// as well. systemd in a container takes its kernel command line from these arguments.
  ///
  /// Nobody sits at the console of a machine: a root whose `/etc` is empty, as with `Volatile=yes`, must not wait for
  /// somebody who answers systemd-firstboot's questions. Each unit's line there is an open, a write and a close of process
  /// 1's, and a thirtieth of a boot: they come from the first failure on, as on a stock system, whose boot loader says
  /// `quiet`. The spec's own parameters come later and decide over both.
  var initArguments: [String] {
    let named = spec.machine.hostname.map { ["systemd.hostname=\($0)"] } ?? []
    return named + ["systemd.firstboot=no", "systemd.show_status=auto"] + spec.machine.parameters.map(\.description)
  }

  var environment: [String] {
    var result = [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", "container=henge",
      "container_uuid=\(machine.uuid)", "NOTIFY_SOCKET=/run/host/notify",
    ]
    if hasCredentials { result.append("CREDENTIALS_DIRECTORY=/run/host/credentials") }
    for (key, value) in hostRelease { result.append("container_host_\(key)=\(value)") }
    return result + spec.machine.environment.map(\.description)
  }

  /// The fields of the host's os-release that the container interface passes on.
  private var hostRelease: [(String, String)] {
    let lines = String(decoding: host.osRelease, as: UTF8.self).split(separator: "\n")
    return ["ID", "BUILD_ID", "VERSION_ID", "VARIANT_ID"].compactMap { key in
      guard let line = lines.first(where: { $0.hasPrefix("\(key)=") }) else { return nil }
      let value = line.dropFirst(key.utf8.count + 1).filter { $0 != "\"" && $0 != "'" }
      return (String(key.utf8.map { Character(UnicodeScalar($0 == 95 ? 95 : $0 | 0x20)) }), String(value))
    }
  }

  /// Out of the bounding set, because units of stock images look there: with them kept, systemd starts units that then
  /// fail. `AUDIT_WRITE` stays: it is in the set that container engines hand to every container.
  var droppedCapabilities: [UInt32] {
    var harmful: CapabilitySet = [.sysModule, .sysRawIO, .auditControl, .auditRead]
    // It counts for nothing in the host's network namespace: units that ask for it would start and fail.
    if sharesNetwork { harmful.formUnion(.netAdmin) }
    let dropped = harmful.subtracting(spec.exec.capability).union(spec.exec.dropCapability)
    return dropped.numbers.map(UInt32.init).filter { $0 < host.capabilityCount }
  }
}

extension CapabilitySet {
  static let netAdmin = CapabilitySet(rawValue: 1 << 12)
  static let sysModule = CapabilitySet(rawValue: 1 << 16)
  static let sysRawIO = CapabilitySet(rawValue: 1 << 17)
  static let auditControl = CapabilitySet(rawValue: 1 << 30)
  static let auditRead = CapabilitySet(rawValue: 1 << 37)
}
