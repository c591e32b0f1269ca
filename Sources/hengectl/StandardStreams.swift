import Glibc
import Linux
import Varlink

/// Our standard streams on their way into a machine, each through a pipe made for it. Nothing that is open here gets
/// in itself, unless the operator says so of pipes; what is a pipe already is moved on page by page, which copies nothing.
struct StandardStreams {
  /// A word for each stream, as the supervisor takes them.
  private(set) var words: [String] = []
  /// What goes along, in their order.
  private(set) var descriptors: [Descriptor] = []
  private var inputs: [Relay] = []
  private var outputs: [Relay] = []

  /// - Parameter direct: whether what is a pipe is passed on itself, with nobody in between.
  init(direct: Bool) throws(Failure) {
    var shared: (status: FileStatus, pipe: Descriptor)?
    for number in Int32(0)...2 {
      // One that is closed reads and writes nothing, as the null device does.
      guard let own = try? Descriptor(adopting: check(fcntl(number, F_DUPFD_CLOEXEC, 3), "use")) else {
        words.append("null")
        continue
      }
      let status = try own.status()
      if status.kind == .directory {
        throw Failure("pass on", "standard stream \(number)", "it is a directory", kind: .usage)
      }
      if status.kind == .characterDevice, status.major == 1, status.minor == 3 {
        words.append("null")
        continue
      }
      if direct, own.isAnonymousPipe, let pipe = Self.openedAnew(own, status, number == 0 ? .read : .write) {
        words.append("direct")
        descriptors.append(pipe)
        continue
      }
      words.append("pipe")
      // Three in a row take turns more seldom: that is what makes up for the one in between.
      if own.isAnonymousPipe { own.enlargePipe(to: 1 << 20) }
      if number == 2, let shared, shared.status.device == status.device, shared.status.inode == status.inode {
        // One place for both: through one pipe, so that their order stays.
        descriptors.append(shared.pipe)
        continue
      }
      let pipe = try Pipe(size: 1 << 20)
      let relay = number == 0 ? Relay(from: own, to: pipe.input) : Relay(from: pipe.output, to: own)
      // Of a file the kernel takes the place without a lock then: two of us with one file would write over each other.
      relay.canSplice = status.kind != .regular
      try (number == 0 ? pipe.input : pipe.output).setNonBlocking()
      if number == 0 {
        inputs.append(relay)
        descriptors.append(pipe.output)
      } else {
        outputs.append(relay)
        descriptors.append(pipe.input)
        if number == 1 { shared = (status, pipe.input) }
      }
    }
  }

  /// A pipe that others have, too, open in one direction only and with flags of its own: what the command sets there is
  /// nobody else's. Nil for somebody else's pipe.
  private static func openedAnew(_ own: Descriptor, _ status: FileStatus, _ flags: OpenFlags) -> Descriptor? {
    let number = open("/proc/self/fd/\(own.raw)", flags.rawValue | O_CLOEXEC)
    guard number >= 0 else { return nil }
    let pipe = Descriptor(adopting: number)
    // As /dev/stdout and the like any user of the machine may open it, in this direction and in no other: it does not
    // become the machine's.
    return fchmod(pipe.raw, status.mode & 0o777 | (flags == .read ? 0o444 : 0o222)) == 0 ? pipe : nil
  }

  /// Lets go of what the command has now: it must be alone with the ends that it reads from and writes to.
  private func release() {
    let null = open("/dev/null", O_RDWR | O_CLOEXEC)
    guard null >= 0 else { return }
    defer { close(null) }
    // The numbers stay with whoever still has them, the pipes do not.
    for descriptor in descriptors { dup2(null, descriptor.raw) }
    // The relays have their own. Standard error stays, for what we have to say ourselves.
    for number in Int32(0)...1 { dup2(null, number) }
  }

  /// Copies until the reply is there.
  mutating func run(until client: VarlinkClient) {
    release()
    guard !inputs.isEmpty || !outputs.isEmpty else { return }
    // A reader that went away is an error of the write to it, and ends one stream and not us.
    signal(SIGPIPE, SIG_IGN)
    var pump = Pump(ready: client.readiness ?? -1, hasReply: client.hasReply)
    pump.inputs = inputs
    pump.outputs = outputs
    _ = pump.run()
    inputs = []
    outputs = []
  }
}
