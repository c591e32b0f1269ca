import CLinux
import Glibc
import Linux
import StageProtocol
import Varlink

/// `HandOff=yes`: the machine's outgoing TCP connections are made by the host, by a broker that decides on each; and who
/// accepts one that came to a published port gets the host's socket from it. The supervisor keeps hold of where calls
/// wait, so that they outlast a broker.
final class HandOff {
  private let context: NetworkContext
  private let interface: String
  private let isRequired: Bool
  private let memory: Descriptor
  private var keeper: Keeper?
  private var listener: Descriptor?
  private var offers: SocketPair?
  /// How many brokers there were in a row that did not come to decide on anything.
  private var failures = 0
  private var lastBegun: UInt64?

  /// - Parameters:
  ///   - interface: the one that leads outside; empty where there is none.
  ///   - isRequired: whether the machine has no other way: it is taken down where no broker can be set up.
  init(by interface: String, isRequired: Bool = false, in context: NetworkContext) throws(Failure) {
    self.context = context
    self.interface = interface
    self.isRequired = isRequired
    memory = Descriptor(adopting: try check(clinux_memfd_create("hand-off", false), "make an anonymous file"))
    try check(ftruncate(memory.raw, off_t(HandOffMemory.size)), "make room for", "counters")
  }

  func start(for run: NetworkRun, network: Descriptor) {
    stop()
    guard let listener = run.connections else { return }
    self.listener = listener
    forgetCall()
    offers = try? SocketPair(packets: true)
    // In the forwarder's group: what its sockets send passes the same guard, whoever has them by then.
    let keeper = Keeper("broker", in: context) { [unowned self] onEnd throws(Failure) in
      countFailures()
      let request = CarrierRequest.broker(
        BrokerRequest(supervisor: getpid(), workplace: context.workplace, interface: interface, isPassing: isPassing))
      // Whoever only lets calls pass reads no offers, and relays need not make any.
      if isPassing, let offers {
        shutdown(offers.second.raw, Int32(SHUT_RDWR))
        // Those that are on their way would keep their clients' sockets open.
        while (try? offers.second.receive(limit: 256)) ?? nil != nil {}
      }
      return try CarrierProcess(
        request, network: network, extra: memory, more: [listener] + (offers.map { [$0.second] } ?? []), run: run,
        group: run.guarded, in: context, onEnd: onEnd)
    }
    self.keeper = keeper
    keeper.start()
  }

  func stop() {
    keeper?.stop()
    keeper = nil
    listener = nil
    offers = nil
    lastBegun = nil
    failures = 0
  }

  /// For a relay of this run, as of `CarrierDescriptor.words` and what comes after it; nil where there are no brokers.
  var forRelays: [Descriptor]? { offers.map { [memory, $0.first] } }

  /// Whether calls only pass, because two brokers in a row could not be set up: rather than that process 1 waits.
  private var isPassing: Bool { failures >= 2 }

  private func countFailures() {
    var begun: UInt64 = 0
    _ = pread(memory.raw, &begun, 8, off_t(HandOffMemory.begun))
    if !isPassing { failures = begun == lastBegun ? failures + 1 : 0 }
    lastBegun = begun
    guard isPassing, isRequired, begun == 0 else { return }
    context.fail(
      Failure(
        "hand off", "connections", keeper?.lastEnd ?? "no broker can be set up",
        advice: "set Mode=user, which has packets to fall back to", kind: .refused))
  }

  /// A call that was in hand when another run of the machine ended.
  private func forgetCall() {
    let nothing = [UInt8](repeating: 0, count: HandOffMemory.slotSize)
    _ = pwrite(memory.raw, nothing, nothing.count, off_t(HandOffMemory.slot))
  }

  private var values: [UInt64] {
    var values = [UInt64](repeating: 0, count: HandOffCounter.allCases.count)
    _ = pread(memory.raw, &values, values.count * 8, 0)
    return values
  }

  var description: String {
    if isPassing { return "hand-off (off: \(keeper?.lastEnd ?? "no broker"))" }
    let values = values
    let back = HandOffCounter.fallenBack.reduce(0) { $0 &+ values[$1.rawValue] }
    let rest = interface.isEmpty ? "stayed inside" : "left to packets"
    let taken = values[HandOffCounter.handedIn.rawValue]
    let handedIn = taken > 0 ? ", \(taken) handed in" : ""
    return "hand-off (\(values[HandOffCounter.handedOver.rawValue]) handed over\(handedIn), \(back) \(rest))"
  }

  var state: JSON {
    let values = values
    func value(_ counter: HandOffCounter) -> JSON { JSON(Int64(clamping: values[counter.rawValue])) }
    var back: JSON = [:]
    for counter in HandOffCounter.fallenBack { back["\(counter)"] = value(counter) }
    return [
      "process": keeper?.process.map { JSON($0.id) } ?? .null, "restarts": JSON(keeper?.restarts ?? 0),
      "lastEnd": JSON(keeper?.lastEnd), "passing": .bool(isPassing), "handedOver": value(.handedOver),
      "handedIn": value(.handedIn), "unreachable": value(.unreachable), "refused": value(.refused), "fallenBack": back,
    ]
  }
}
