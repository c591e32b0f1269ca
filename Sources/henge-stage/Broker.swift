import CLinux
import Glibc
import Linux
import StageProtocol

/// Makes a machine's outgoing TCP connections on the host, and gives those from outside to who accepts them: each such
/// call of the machine's waits until it was decided on here. This process stays in the host's network namespace, where it
/// may do what any program may; over the machine's processes it has what their root has to look at them, and nothing
/// else.
func run(_ request: BrokerRequest, userNamespace: UserNamespace) throws(Failure) {
  let network = Descriptor(adopting: CarrierDescriptor.network)
  let memory = Descriptor(adopting: CarrierDescriptor.extra)
  let listener = Descriptor(adopting: CarrierDescriptor.listener)
  let channel = Descriptor(adopting: CarrierDescriptor.offers)
  guard !request.isPassing else {
    try confine(userNamespace, request.workplace, keeping: [], request.supervisor)
    try passAll(listener)
  }
  let inside = try openSockets(in: network, count: 2) { (give) throws(Failure) in
    for socket in try routeSockets() { try give(socket) }
  }
  guard inside.count == 2 else { throw Failure("make", "a netlink socket", "who was to make it has ended") }
  let outside = try routeSockets()
  // Attached nowhere, so that no path leads out of it.
  let processes = try MountTree(copying: "/proc", recursive: true).descriptor
  // CAP_DAC_OVERRIDE and CAP_SYS_PTRACE, over what belongs to the machine.
  try confine(userNamespace, request.workplace, keeping: [1, 19], request.supervisor)

  guard let shared = clinux_map_shared(memory.raw, HandOffMemory.size) else {
    throw Failure("map", "the counters", errno: .init(rawValue: errno))
  }
  guard (1...HandOffMemory.slotSize).contains(clinux_trap_message_size()) else {
    throw Failure("hand off", "connections", "this kernel's messages are too long")
  }
  let words = (shared + HandOffMemory.offers).bindMemory(to: UInt64.self, capacity: Offer.most)
  let broker = Broker(
    offers: try BrokerOffers(channel, words: words),
    listener: listener, inside: inside[0], outside: outside[0], processes: processes, interface: request.interface,
    routes: KnownRoutes(notices: (inside[1], outside[1])),
    counters: shared.assumingMemoryBound(to: UInt64.self))
  (shared + HandOffMemory.begun).assumingMemoryBound(to: UInt64.self).pointee &+= 1
  try broker.run(slot: shared + HandOffMemory.slot)
}

/// What asks for the routes of the network namespace that this process is in, and what hears of their changes.
private func routeSockets() throws(Failure) -> [Descriptor] {
  [
    Descriptor(adopting: try check(clinux_route_socket(), "make", "a netlink socket")),
    Descriptor(adopting: try check(clinux_route_notices(), "make", "a netlink socket")),
  ]
}

private func confine(
  _ users: UserNamespace, _ workplace: String, keeping kept: [UInt32], _ supervisor: Int32
) throws(Failure) {
  try enterSmallRoot(on: workplace, withPrograms: false)
  try joinNamespaces(users.descriptor, .user)
  try check(clinux_become(0, 0), "become", "the machine's root")
  try Capabilities.confine(dropping: (0..<Capabilities.count).filter { !kept.contains($0) })
  try check(clinux_set_no_new_privileges(), "give up", "new privileges")
  try hideFromOthers()
  try follow(supervisor)
  _ = clinux_raise_descriptor_limit()
  signal(SIGPIPE, SIG_IGN)
  try check(clinux_trap_confine_keeper(), "give up", "system calls")
}

/// For a machine whose broker cannot be set up: process 1 itself would wait for it.
private func passAll(_ listener: Descriptor) throws(Failure) -> Never {
  let slot = UnsafeMutableRawPointer.allocate(byteCount: HandOffMemory.slotSize, alignment: 16)
  slot.initializeMemory(as: UInt8.self, repeating: 0, count: HandOffMemory.slotSize)
  var call = clinux_held_call()
  while true {
    if clinux_trap_receive(listener.raw, slot, &call) == 0 {
      _ = clinux_trap_continue(listener.raw, call.id)
      clinux_trap_done(slot)
    } else if errno == EPIPE {
      while true { pause() }
    } else if errno != ENOENT {
      throw Failure("wait for", "connections", errno: .init(rawValue: errno))
    }
  }
}

extension Setup {
  /// Every program of the machine comes after this one.
  func watchConnections() throws(Failure) {
    let listener = clinux_trap_set()
    let number = errno
    guard listener >= 0 else {
      let advice =
        "what this machine is started in is watched already, such as a machine with hand-off: set HandOff=no, and no Mode=sockets"
      throw Failure(
        "watch", "connections", errno: .init(rawValue: number), advice: number == EBUSY ? advice : nil, kind: .refused)
    }
    try channel.send(.connections, passing: Descriptor(adopting: listener))
  }
}
