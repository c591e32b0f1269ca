import CLinux
import Glibc
import Linux
import Logging
import MachinePlan
import MachineSpec
import MachineStore
import Network
import StageProtocol
import Systemd
import Varlink

/// One machine's supervisor: owns its leader, console, notify socket, guest bus and control socket. Everything happens
/// on the one thread that runs the event loop.
public final class Supervisor {
  let name: MachineName
  let store: MachineStore
  let programs: Programs
  let loop: EventLoop
  let log: Logger

  var phase = Phase.idle
  var lock: MachineLock?
  var record: MachineRecord?
  var spec = Spec()
  var plan: MachinePlan?
  var folder: Descriptor?
  var state: MachineState?
  var host: HostPreparation?
  var cgroups: any CgroupBackend = DirectCgroups()
  /// The host's systemd, where it has one; connected to when it is first needed.
  var hostManager = HostManager.none
  /// Whether that is told how the machine is, because the machine is its service.
  var isService = false
  var hostBus: HostBus?
  var registration: MachinedRegistration?
  /// What connects the machine with the world outside; from when its network namespace is there.
  var network: (any NetworkBackend)?
  /// The end of a machine that cannot have its network.
  var failing: EventLoop.Source?
  /// Takes back everything on the host, last step first.
  let undo = UndoStack()

  var stage: StageRun?
  var sealedStage: Descriptor?
  var offeredStage: (copy: Descriptor, ready: Descriptor)?
  var leader: (process: Pidfd, id: Int32)?
  var console: Console?
  /// The machine's instance of devpts, held as the stage made it: whatever the machine mounts over it.
  var terminals: Descriptor?
  /// What was bound into the machine while it runs.
  var liveMounts: [LiveMount] = []
  var notify: NotifySocket?
  /// What belongs to this run of the machine and ends with it.
  var runSources: [EventLoop.Source] = []
  var guest: GuestConnection?
  /// The commands that run inside; from the first one on.
  var executions: Executions?
  var deadline: EventLoop.Source?
  /// When a machine that was asked over its bus gets a signal as well.
  var patience: EventLoop.Source?
  /// What the operator wants of a machine that is ending; nil when it ends by itself.
  var asked: Stop?
  /// Whether it was told to stop before its process 1 ran.
  var isAborted = false
  var restarts = RestartTimes()
  var freezing: FreezeWatch?
  var isFrozen = false
  var unitWaits: [UnitWait] = []
  let diary: Diary
  private var rest: EventLoop.Source?
  var control: ControlServer?
  var observers: [Observer] = []

  /// Moments of the monotonic clock in microseconds: for the operator who asks where the time goes.
  var moments: [(name: String, at: UInt64)] = []
  /// The last word of process 1 about itself.
  var statusText = ""
  /// Whether somebody watches the boot.
  var wantsProgress = false
  var progress: BootProgress?
  /// While the machine boots, and while commands come.
  var quickMoves: QuickMoves?
  /// When progress was told last, on the monotonic clock in microseconds.
  var lastProgress: UInt64 = 0
  var memoryWatch: MemoryWatch?
  var autoScalers: [AutoScaler] = []
  /// Whether limits are being changed: one at a time, so that what is taken back is what was there.
  var isChangingLimits = false
  /// Those who want to change them meanwhile, in the order in which they came.
  var waitingForLimits: [() -> Void] = []
  /// How many units came up, for the progress of a boot.
  var activeUnits = 0

  /// Makes the supervisor of a machine that is not running.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - places: where things are on disk.
  ///   - connection: an open connection of whoever started this program, to be served like one to the control socket.
  ///   - stage: a file that the starter fills with a copy of the stage, and a stream that ends when it has.
  ///   - log: where to tell what happens.
  /// - Throws: `Failure` when this program's siblings cannot be found.
  public init(
    name: MachineName, places: Places, connection: Int32?, stage: (copy: Int32, ready: Int32)? = nil, log: Logger
  ) throws {
    offeredStage = stage.map { (Descriptor(adopting: $0.copy), Descriptor(adopting: $0.ready)) }
    self.name = name
    self.log = log
    store = MachineStore(places)
    diary = Diary(of: name, in: store.events)
    programs = try Programs()
    loop = try EventLoop()
    let control = ControlServer(service: controlService(), on: loop)
    self.control = control
    control.onIdle = { [unowned self] in
      // Whoever started this program went away before it said what to do.
      if case .idle = phase { loop.exit(1) }
      settle()
    }
    if let connection { try control.serve(connection) }
  }

  /// Runs until the machine has stopped and everybody who asked has an answer.
  public func run() throws {
    // A peer that goes away is an error of the write to it, not the end of the supervisor.
    signal(SIGPIPE, SIG_IGN)
    let stopSignals = [SIGTERM, SIGINT, SIGHUP]
    let sources = try stopSignals.map { number in
      try loop.addSignal(number) { [unowned self] _ in stop(.poweroff) }
    }
    // Without it they may be let go before the loop runs, and a signal would only ever wait.
    _ = try withExtendedLifetime(sources) { try loop.run() }
  }

  /// Starts the machine as a service of the host's systemd: what becomes of it is told to that, and nobody need ask.
  ///
  /// - Throws: `Failure` when it came to nothing, or ended otherwise than well.
  public func runService() throws {
    isService = true
    try loop.post { [unowned self] in
      do {
        try start(overrides: [])
      } catch {
        control?.close()
      }
    }
    try run()
    if case .stopped(let failure?) = phase { throw failure }
  }

  func mark(_ moment: String, at time: UInt64 = clinux_monotonic_microseconds()) {
    moments.append((moment, time))
  }

  /// Changes the phase and answers those who waited for it.
  func enter(_ next: Phase) {
    phase = next
    mark(next.name)
    switch next {
    case .booting: break
    case .up: quickMoves?.stop()
    default:
      quickMoves?.stop()
      quickMoves = nil
    }
    log.info("\(name): \(next.name)")
    notifyHost()
    tellPhase()
    tellObservers()
    resumeUnitWaits()
    // Whoever waits for it is told first: what is let go of takes the kernel a while to free.
    settle()
  }

  /// Lets go of what only a start needs, and a moment after the last question of the memory that answering took: a
  /// running machine costs as little as can be.
  private func settle() {
    guard case .up = phase else { return }
    sealedStage = nil
    offeredStage = nil
    guest?.program = nil
    rest = try? loop.addTimer(after: 300_000, accuracy: 100_000) { clinux_release_memory() }
  }

  /// The folder of the running machine, for what lies in it.
  func runtimeFolder() throws(Failure) -> Descriptor {
    guard let folder else { throw Failure("use", name.description, "it is not running") }
    return folder
  }
}
