import Glibc
import Linux
import Testing
import Varlink

// How the tests run programs: as an operator does, from outside, with a deadline for each.

/// How a program ended, and what it said.
struct Outcome: CustomStringConvertible {
  /// The exit code; 128 and the signal's number for one that a signal ended.
  var code: Int32
  var output: String
  var errors: String
  var seconds: Double
  var isTimedOut: Bool
  var arguments: [String]

  var succeeded: Bool { code == 0 }
  /// Standard output without the white space around it.
  var text: String { trimmed(output) }
  /// The lines on standard error.
  var errorLines: [String] { errors.split(separator: "\n").map(String.init) }

  var description: String {
    let how = isTimedOut ? "killed at its deadline" : "exit code \(code)"
    return "$ \(arguments.joined(separator: " ")): \(how) after \(rounded(seconds)) s\n\(output)\(errors)"
  }

  /// Standard output as JSON.
  func json() throws -> JSON {
    guard succeeded else { throw Complaint("\(self)") }
    return try JSON(parsing: Array(output.utf8))
  }
}

/// A test's own complaint.
struct Complaint: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// A program that runs, with its output in files that have no name: nobody has to drain a pipe, and what it leaves
/// behind cannot hold the test up.
struct RunningProgram {
  let process: Pidfd
  let id: Int32
  private let output: Descriptor
  private let errors: Descriptor
  private let arguments: [String]
  private let started: UInt64

  /// - Parameters:
  ///   - arguments: the program, searched in PATH unless it has a slash, and its arguments.
  ///   - environment: `NAME=value`, added to a PATH and a plain locale.
  init(_ arguments: [String], environment: [String] = []) throws {
    guard let name = arguments.first, let path = findProgram(name) else {
      throw Complaint("no program for \(arguments)")
    }
    output = try unnamedFile()
    errors = try unnamedFile()
    self.arguments = arguments
    started = now()
    var request = ProcessRequest(
      .path(path), arguments: arguments,
      environment: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        + environment, descriptors: [nil, output, errors])
    request.newSession = true
    (process, id) = try request.start()
  }

  func signal(_ number: Int32) { _ = try? process.signal(number) }

  var isRunning: Bool {
    var poll = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, 0) == 0
  }

  /// Waits until it has asked a supervisor for something and sleeps until the answer comes.
  func untilItAsked() throws {
    try until("it waits for an answer: \(arguments)") {
      let isAsleep = Host.status(id, "State")?.hasPrefix("S") ?? false
      return !isRunning
        || isAsleep
          && names(in: "/proc/\(id)/fd").contains {
            Descriptor.currentDirectory.linkTarget("/proc/\(id)/fd/\($0)")?.hasPrefix("socket:") ?? false
          }
    }
  }

  /// Waits for its end; at the deadline it is killed together with all that has stayed in its session's group.
  func wait(deadline seconds: Double = 60) throws -> Outcome {
    var isTimedOut = false
    let end = started + UInt64(seconds * 1e9)
    while true {
      var poll = pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0)
      let moment = now()
      let left = moment < end ? (end - moment) / 1_000_000 + 1 : 0
      let result = Glibc.poll(&poll, 1, Int32(clamping: left))
      if result > 0 { break }
      if result == 0 {
        isTimedOut = true
        kill(-id, SIGKILL)
        break
      }
      if errno != EINTR { throw Complaint("poll: errno \(errno)") }
    }
    let exit = try process.reap(wait: true)
    let elapsed = Double(now() - started) / 1e9
    let code: Int32 =
      switch exit {
      case .exited(let status): status
      case .signalled(let number): 128 + number
      case nil: -1
      }
    let outcome = Outcome(
      code: code, output: try contents(output), errors: try contents(errors), seconds: elapsed, isTimedOut: isTimedOut,
      arguments: arguments)
    if Checkout.environmentVariable("HENGE_TEST_TRACE") != nil { print(outcome) }
    return outcome
  }

  private func contents(_ file: Descriptor) throws -> String {
    lseek(file.raw, 0, SEEK_SET)
    return String(decoding: try file.readAll(limit: 64 << 20, subject: "output"), as: UTF8.self)
  }
}

/// Runs a program to its end.
@discardableResult
func run(_ arguments: [String], environment: [String] = [], deadline: Double = 60) throws -> Outcome {
  try RunningProgram(arguments, environment: environment).wait(deadline: deadline)
}

/// Runs a program that must succeed, and returns what it said.
@discardableResult
func runWell(_ arguments: [String], environment: [String] = [], deadline: Double = 60) throws -> String {
  let outcome = try run(arguments, environment: environment, deadline: deadline)
  guard outcome.succeeded else { throw Complaint("\(outcome)") }
  return outcome.text
}

private func unnamedFile() throws -> Descriptor {
  // O_TMPFILE, which Glibc's module map does not have.
  Descriptor(adopting: try check(open("/tmp", 0o20200000 | O_RDWR | O_CLOEXEC, 0o600), "make a file in", "/tmp"))
}

/// The absolute path of a program of the host's.
func findProgram(_ name: String) -> String? {
  if name.contains("/") { return name }
  let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
  return folders.lazy.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
}

/// Nanoseconds of the monotonic clock.
func now() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Sleeps; only for the moments of a kill, and between two looks.
func pause(milliseconds: Double) { usleep(UInt32(milliseconds * 1000)) }

/// Looks until something holds. On a host with other things to do everything takes its time.
func until(_ what: String, within seconds: Double = 30, _ condition: () throws -> Bool) throws {
  let end = now() + UInt64(seconds * 1e9)
  while try !condition() {
    if now() > end { throw Complaint("not within \(seconds) s: \(what)") }
    pause(milliseconds: 10)
  }
}

func trimmed(_ text: String) -> String {
  let whites: Set<Character> = [" ", "\n", "\t", "\r"]
  var rest = text[...]
  while let first = rest.first, whites.contains(first) { rest.removeFirst() }
  while let last = rest.last, whites.contains(last) { rest.removeLast() }
  return String(rest)
}

func rounded(_ seconds: Double) -> String {
  let hundredths = Int((seconds * 100).rounded())
  return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
}

/// Writes a file of the test's own.
func write(_ text: String, to path: String, mode: UInt32 = 0o644) throws {
  let file = try Descriptor.open(path, [.write, .create, .truncate], mode: mode)
  try file.writeAll(Array(text.utf8), subject: path)
}

/// A file's text; nil when it cannot be read, as those of a process that has ended.
func read(_ path: String) -> String? {
  guard let file = try? Descriptor.open(path, [.read, .nonBlocking]),
    let bytes = try? file.readAll(limit: 64 << 20, subject: path)
  else { return nil }
  return String(decoding: bytes, as: UTF8.self)
}

/// The names in a folder, none when it is not there.
func names(in folder: String) -> [String] { (try? Descriptor.open(folder, .directory).names()) ?? [] }

/// What the tests find of this checkout.
enum Checkout {
  /// The repository's root.
  static let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
  /// The folder with the built programs.
  static let programs = environmentVariable("HENGE_PROGRAMS") ?? "\(root)/.build/release"

  static func environmentVariable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
  }

  static let hasPrograms = ["hengectl", "henge-supervisor", "henge-stage", "henge-import"].allSatisfy {
    access("\(programs)/\($0)", X_OK) == 0
  }

  /// The archive of a guest image; throws when it is not built.
  static func archive(_ image: String) throws -> String {
    // The builder's cache lies below the home of whoever runs the tests.
    let inherited = ["HOME", "HENGE_CACHE_DIR", "XDG_CACHE_HOME"].compactMap { name in
      environmentVariable(name).map { "\(name)=\($0)" }
    }
    return try runWell(["\(root)/images/build", "--path", image], environment: inherited)
  }

  static let hasImages = ["bullseye", "bookworm", "trixie", "forky", "monolith", "nest"].allSatisfy {
    (try? archive($0)) != nil
  }
}

extension Trait where Self == ConditionTrait {
  /// For tests that start machines.
  static var needsRoot: Self { .enabled(if: geteuid() == 0, "needs root: machines are made by the host's root") }
  /// For tests that run what was built.
  static var needsPrograms: Self {
    .enabled(if: Checkout.hasPrograms, "needs the built programs: make build, or HENGE_PROGRAMS=FOLDER")
  }
  /// For tests that import guests.
  static var needsImages: Self { .enabled(if: Checkout.hasImages, "needs the guest images: make images") }
}
