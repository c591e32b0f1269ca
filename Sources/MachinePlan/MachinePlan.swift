import MachineSpec
import StageProtocol

/// Everything that starting a machine will do, in order; nothing is decided after this.
public struct MachinePlan: Sendable, Equatable {
  /// What the supervisor does on the host before the stage runs.
  public var hostSteps: [HostStep]
  /// What the stage does.
  public var stage: StagePlan
  /// What connects the machine with the world.
  public var network: NetworkPlan
  /// What the operator should know, one line each.
  public var warnings: [String]

  /// A plan.
  public init(hostSteps: [HostStep], stage: StagePlan, network: NetworkPlan = NetworkPlan(), warnings: [String]) {
    self.hostSteps = hostSteps
    self.stage = stage
    self.network = network
    self.warnings = warnings
  }
}

extension MachinePlan {
  /// The control group that is made.
  public var group: CgroupPlan? {
    get {
      for case .cgroup(let plan) in hostSteps { return plan }
      return nil
    }
    set {
      guard let newValue, let index = hostSteps.firstIndex(where: { if case .cgroup = $0 { true } else { false } })
      else { return }
      hostSteps[index] = .cgroup(newValue)
    }
  }
}

/// One step of the supervisor's, on the host.
public enum HostStep: Sendable, Equatable {
  /// Gives the files of a tree to another range of ids.
  case shiftOwnership(path: String, from: UInt32, to: UInt32, count: UInt32)
  /// Makes the machine's control group, and in it one for the supervisor and one that belongs to the machine.
  case cgroup(CgroupPlan)
  /// Makes an upper and a work folder that go away when the machine stops; the upper looks like the root that it will
  /// be, whose owner has the offset added.
  case scratchFolder(path: String, like: String, idOffset: UInt32)
  /// Makes the host's folder for the machine's journal, which belongs to the machine's root.
  case journalFolder(path: String, owner: UInt32)
  /// Makes the user namespace.
  case userNamespace(base: UInt32, count: UInt32)
}

/// A control group to make.
public struct CgroupPlan: Sendable, Equatable {
  /// The folder of the group that it is made in.
  public var parent: String
  /// Its name there.
  public var name: String
  /// Who makes it.
  public var keeper: CgroupKeeper
  /// Where control groups are mounted.
  public var mount: String
  /// What it is for, in words.
  public var title: String
  /// The host's id that the machine's part is delegated to.
  public var delegate: UInt32
  /// Files of the machine's part that belong to the delegate besides the folder.
  public var delegatedFiles: [String]
  /// How deep groups of the machine's may lie.
  public var maxDepth: Int
  /// How many groups the machine may make.
  public var maxDescendants: Int
  /// The folder of the group that the supervisor goes back to before it removes this one; empty is the parent. A parent
  /// that is not our own group and passes on controllers takes no process.
  public var home = ""
  /// Controllers that the group and the machine's part have.
  public var controllers: [String] = []
  /// What is put on the group, out of the machine's reach.
  public var limits: [Limit] = []
}

/// Why there is no plan.
public struct PlanError: Error, Sendable, Equatable {
  /// What is wrong.
  public var reason: String
  /// What to do about it.
  public var advice: String?
  /// Whether it is the host that cannot do it, rather than the spec that asks for nonsense.
  public var isHostsFault: Bool

  init(_ reason: String, advice: String? = nil, isHostsFault: Bool = false) {
    self.reason = reason
    self.advice = advice
    self.isHostsFault = isHostsFault
  }
}
