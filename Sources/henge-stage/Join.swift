import CLinux
import Glibc
import Linux
import StageProtocol

/// Goes into a running machine and does one thing there, as its root but without any capability that it
/// does not take.
///
/// All namespaces are joined: without the machine's pid namespace its process 1 would see a peer without a number and
/// hang up. This process lends the machine nothing: it is not dumpable, holds no descriptor of the host's besides its
/// channel, and runs from a sealed file.
func join(_ bytes: [UInt8], leader: Descriptor, channel: Channel) throws(Failure) {
  let request: JoinRequest
  do {
    request = try JoinRequest(decoding: bytes)
  } catch {
    throw Failure("read", "the request", "expected \(error.expected)")
  }
  var kinds: NamespaceKinds = [.user, .mount, .pid, .ipc, .uts, .cgroup]
  // One that shares the host's is in it by being started here; an ordinary user may not even enter where he is.
  if try !Pidfd(leader).sharesNetwork() { kinds.insert(.network) }
  try joinNamespaces(leader, kinds)
  try check(clinux_become(0, 0), "become", "the machine's root")
  try hideFromOthers()

  // Only a child is in the pid namespace that was joined.
  let child = clinux_fork()
  try check(child, "fork")
  if child > 0 {
    // That the child executes its command shows by the end of the channel.
    if case .command = request { _ = clinux_close_range(3, false) }
    exit(waitFor(child))
  }
  try check(clinux_set_parent_death_signal(SIGKILL), "follow", "the parent")
  if case .command(let command) = request {
    // What it execs is the machine's root, no more and no less.
    try Capabilities.confine(dropping: command.dropped)
  } else {
    try Capabilities.confine(dropping: (0..<Capabilities.count).filter { !request.neededCapabilities.contains($0) })
  }

  switch request {
  case .connect(let path):
    let socket = Descriptor(adopting: try check(clinux_unix_socket(false), "make a socket"))
    try check(clinux_set_nonblocking(socket.raw, true), "make a socket")
    try check(clinux_unix_connect(socket.raw, path), "connect to", path)
    try channel.send(.connection, passing: socket)
    exit(0)
  case .copy(let request):
    try copy(request, channel: channel)
    exit(0)
  case .find(let program):
    if canExecute(program) { try channel.send(.executing(0)) }
    exit(0)
  case .command(let command): try become(command, channel: channel)
  case .execute(let arguments, let environment):
    guard let program = arguments.first else { throw Failure("execute", "nothing", "no program is named") }
    clinux_reset_signals()
    try check(clinux_close_range(3, true), "close descriptors")
    let result = withCStrings(arguments) { list in
      withCStrings(environment) { clinux_execute(program, list, $0) }
    }
    try check(result, "execute", program)
  }
}

func waitFor(_ child: Int32) -> Int32 {
  var status: Int32 = 0
  while waitpid(child, &status, 0) < 0, errno == EINTR {}
  // The low seven bits are the signal, the next byte the exit status.
  return status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
}
