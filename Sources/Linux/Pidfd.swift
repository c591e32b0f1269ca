import CLinux
import Glibc
import SystemPackage

/// A process held by a descriptor: its number can be used again, this can not.
public struct Pidfd: Sendable {
  /// The descriptor; readable once the process has ended.
  public let descriptor: Descriptor

  /// Wraps a pidfd that is open already.
  public init(_ descriptor: Descriptor) {
    self.descriptor = descriptor
  }

  /// Opens a running process. The corresponding C function is `pidfd_open`.
  public init(opening process: Int32) throws(Failure) {
    descriptor = Descriptor(adopting: try check(clinux_pidfd_open(process), "open the process", "\(process)"))
  }

  /// Whether the process is in this process's network namespace.
  ///
  /// By its number, as `/proc/self/fdinfo` tells it: good for as long as it has not ended, which the caller sees to.
  ///
  /// - Throws: `Failure` when it has ended, or is not ours to look at.
  public func sharesNetwork() throws(Failure) -> Bool {
    let path = "/proc/self/fdinfo/\(descriptor.raw)"
    let lines = String(decoding: try Descriptor.open(path).readAll(limit: 4096, subject: path), as: UTF8.self)
    guard let line = lines.split(separator: "\n").first(where: { $0.hasPrefix("Pid:") }),
      let number = line.split(separator: "\t").last.flatMap({ Int32($0) }), number > 0
    else { throw Failure("look at", "a process", "it has ended") }
    func namespace(_ process: String) throws(Failure) -> FileStatus {
      try Descriptor.open("/proc/\(process)/ns/net").status()
    }
    let (ours, theirs) = (try namespace("self"), try namespace("\(number)"))
    return ours.device == theirs.device && ours.inode == theirs.inode
  }

  /// Writes to a file whose writer has to wait, in a child of its own that has nothing else open. The corresponding
  /// system calls are `clone3` and `write`.
  ///
  /// - Parameters:
  ///   - text: what is written, at once.
  ///   - file: open for writing.
  /// - Returns: the child; it ends with 0 when it has written all.
  public init(writing text: StaticString, to file: Descriptor) throws(Failure) {
    var pidfd: Int32 = -1
    try check(clinux_write_aside(file.raw, text.utf8Start, text.utf8CodeUnitCount, &pidfd), "start", "a writer")
    descriptor = Descriptor(adopting: pidfd)
  }

  /// Sends a signal. The corresponding C function is `pidfd_send_signal`.
  ///
  /// - Returns: false when the process has ended already.
  @discardableResult
  public func signal(_ number: Int32) throws(Failure) -> Bool {
    if clinux_pidfd_signal(descriptor.raw, number) == 0 { return true }
    if Glibc.errno == ESRCH { return false }
    throw Failure("signal a process", errno: Errno(rawValue: Glibc.errno))
  }

  /// Takes the result of a child that has ended. The corresponding C function is `waitid(P_PIDFD)`.
  ///
  /// - Parameter wait: whether to wait for its end.
  /// - Returns: nil when it still runs.
  /// - Throws: `Failure` when it is no child of this process.
  public func reap(wait: Bool = false) throws(Failure) -> ProcessExit? {
    var native = clinux_exit()
    let result = try check(clinux_pidfd_reap(descriptor.raw, wait, &native), "wait for a process")
    if result == 0 { return nil }
    return native.signalled ? .signalled(native.status) : .exited(native.status)
  }
}

/// How a process ended.
public enum ProcessExit: Sendable, Equatable {
  /// By itself, with this status.
  case exited(Int32)
  /// By this signal.
  case signalled(Int32)
}

/// What to run, and with what in its hands.
public struct ProcessRequest {
  /// The program: a path, or an open file.
  public enum Program {
    /// An absolute path.
    case path(String)
    /// An open executable, with the name that its argument list shows.
    case descriptor(Descriptor)
  }
  /// The program.
  public var program: Program
  /// The argument list, from the program's own name on.
  public var arguments: [String]
  /// The environment, `NAME=value`. Nothing is inherited.
  public var environment: [String]
  /// What becomes descriptor 0, 1, 2 … of the program; nil stands for `/dev/null`. All others are closed.
  public var descriptors: [Descriptor?]
  /// The control group that it is born in.
  public var cgroup: Descriptor?
  /// Whether it leads a session of its own.
  public var newSession = false
  /// The signal that it gets when the starting process ends.
  public var parentDeathSignal: Int32 = 0

  /// A program with its arguments and nothing else.
  public init(_ program: Program, arguments: [String], environment: [String] = [], descriptors: [Descriptor?] = []) {
    self.program = program
    self.arguments = arguments
    self.environment = environment
    self.descriptors = descriptors
  }

  /// Starts it. The corresponding system call is `clone3`; the child runs nothing but C until exec.
  ///
  /// - Returns: the process and its number.
  /// - Throws: `Failure` that names the program, also for an exec that failed.
  public func start() throws(Failure) -> (process: Pidfd, id: Int32) {
    var request = clinux_spawn()
    request.cgroup = cgroup?.raw ?? -1
    request.new_session = newSession
    request.parent_death_signal = parentDeathSignal
    request.program = -1
    var path = ""
    switch program {
    case .path(let text): path = text
    case .descriptor(let file): request.program = file.raw
    }
    var pidfd: Int32 = -1
    let numbers = descriptors.map { $0?.raw ?? -1 }
    let child = withCStrings(arguments) { argumentList in
      withCStrings(environment) { environmentList in
        numbers.withUnsafeBufferPointer { numberList in
          path.withCString { pathText in
            request.path = pathText
            request.arguments = argumentList
            request.environment = environmentList
            request.descriptors = numberList.baseAddress
            request.descriptor_count = Int32(numberList.count)
            return clinux_spawn_program(&request, &pidfd)
          }
        }
      }
    }
    do {
      try check(child, "run", arguments.first ?? path)
    } catch {
      // Every kernel that this runs on has it.
      guard error.errno == .noFunction else { throw error }
      throw Failure(
        error.operation, error.subject, "the container's seccomp filter hides clone3",
        advice: "give it CAP_SYS_ADMIN, or --security-opt seccomp=unconfined", kind: .refused)
    }
    return (Pidfd(Descriptor(adopting: pidfd)), child)
  }
}

/// Calls a closure with a null-terminated array of C strings that lives as long as the call.
public func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
  let copies = strings.map { strdup($0) }
  defer { copies.forEach { free($0) } }
  let pointers: [UnsafePointer<CChar>?] = copies.map { UnsafePointer($0) } + [nil]
  return pointers.withUnsafeBufferPointer { buffer in
    var empty: UnsafePointer<CChar>?
    guard let base = buffer.baseAddress else { return body(&empty) }
    return body(base)
  }
}
