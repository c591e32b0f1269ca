import Glibc
import Linux
import Testing
import Varlink

// Small roots, archives and host folders for input that nobody should give, and what an operator must see then.

/// What was shown for bad input: the documented exit code and one clear line.
func expectRefusal(
  _ outcome: Outcome, code: Int32, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
) {
  let comment = Comment(rawValue: "\(outcome)")
  #expect(!outcome.isTimedOut, comment, sourceLocation: sourceLocation)
  #expect(outcome.code == code, comment, sourceLocation: sourceLocation)
  #expect(outcome.errors.hasSuffix("\n") && outcome.errorLines.count == 1, comment, sourceLocation: sourceLocation)
  expectHarmless(outcome, sourceLocation: sourceLocation)
  let line = outcome.errorLines.first ?? ""
  let said = ["hengectl: ", "henge-import: "].first(where: line.hasPrefix).map { line.dropFirst($0.utf8.count) }
  // "HENGE_…" and paths may be upper case, the sentence is not.
  #expect(said?.first.map { !$0.isUppercase } ?? false, comment, sourceLocation: sourceLocation)
  for word in words { #expect(line.contains(word), comment, sourceLocation: sourceLocation) }
}

/// Nothing in what was shown moves a terminal's cursor, colours it or turns its text around.
func expectHarmless(_ outcome: Outcome, sourceLocation: SourceLocation = #_sourceLocation) {
  for scalar in (outcome.output + outcome.errors).unicodeScalars where scalar != "\n" {
    let isControl =
      scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || (0x202a...0x202e).contains(scalar.value)
      || (0x2066...0x2069).contains(scalar.value) || [0x061c, 0x200e, 0x200f].contains(scalar.value)
    #expect(!isControl, "\(scalar.value) in \(outcome.arguments)", sourceLocation: sourceLocation)
  }
  #expect(!outcome.errors.contains("Fatal error"), sourceLocation: sourceLocation)
}

extension Sandbox {
  /// A folder for what a test makes.
  var work: String { "\(folder)/work" }
  /// A folder of the host's that links in images point at.
  var decoy: String { "\(folder)/decoy" }

  func makeWork() throws {
    for path in [work, decoy] where mkdir(path, 0o755) < 0 && errno != EEXIST { throw Complaint("mkdir \(path)") }
    try write("the host's own\n", to: "\(decoy)/victim")
  }

  /// What the host has: every file with its type, mode, owner, size, time and contents. Folders of the store change
  /// their times when something is begun in them, what a machine has above its image is its own affair, and what
  /// happened to machines is written down.
  func host() throws -> String {
    let line = """
      cd "$0" && find . -path ./work -prune -o -path ./run -prune -o -path './state/machines/*/upper' -prune -o \
      -path './state/machines/*/work' -prune -o -path './state/machines/*/console.log*' -prune -o \
      -path ./state/events -prune -o \
      \\( -type d -path './state*' -printf '%p %y %m %U %G\\n' \\) -o -printf '%p %y %m %U %G %s %T@ %l\\n' | sort
      find etc decoy state/images state/machines/*/machine.json -type f -exec sha256sum {} + 2>/dev/null | sort
      """
    return try runWell(["sh", "-c", line, folder])
  }

  /// A root that boots nothing but `HostileInit`.
  @discardableResult
  func makeRoot(_ name: String, mode: String = "ready") throws -> String {
    let root = "\(work)/\(name)"
    try runWell(["rm", "-rf", root])
    let folders = ["bin", "sbin", "etc", "usr", "tmp", "var", "dev", "proc", "sys", "run", "root"]
    try runWell(["mkdir", "-p"] + folders.map { "\(root)/\($0)" })
    try runWell(["cp", try HostileInit.program(), "\(root)/sbin/init"])
    try write(mode + "\n", to: "\(root)/etc/mode")
    return root
  }

  /// What `hengectl status` knows of a machine.
  func status(_ machine: String, _ key: String) throws -> JSON? {
    try hengectl("status", "--json", machine, deadline: 20).json()[key]
  }

  /// Imports a root and makes a machine of it.
  func makeMachine(_ short: String, root: String) throws -> String {
    let machine = name(short)
    try succeed("import-fs", root, short)
    try succeed("create", short, machine)
    return machine
  }

  /// Removes what `makeMachine` made.
  func drop(_ short: String) throws {
    _ = try hengectl("terminate", name(short))
    try succeed("remove", name(short))
    try succeed("remove-image", short)
  }
}

/// A mount namespace of its own, kept by a process that sleeps in it, for disks that are full or only readable.
final class PrivateMounts {
  private let holder: RunningProgram
  private let environment: [String]

  init(_ script: String, _ sandbox: Sandbox) throws {
    environment = sandbox.environment
    // Without the sandbox in its environment: it is not one of the programs that must be gone.
    holder = try RunningProgram(["unshare", "--mount", "sh", "-ec", script + "\nexec sleep 120"])
    let end = now() + 10_000_000_000
    while trimmed(read("/proc/\(holder.id)/comm") ?? "") != "sleep" {
      if now() > end { throw Complaint("no mounts: \(script)") }
      pause(milliseconds: 5)
    }
  }

  func hengectl(_ arguments: String...) throws -> Outcome {
    try run(
      ["nsenter", "-t", "\(holder.id)", "-m", "\(Checkout.programs)/hengectl"] + arguments, environment: environment)
  }

  func shell(_ line: String) throws -> String {
    try runWell(["nsenter", "-t", "\(holder.id)", "-m", "sh", "-c", line], environment: environment)
  }

  deinit {
    holder.signal(SIGKILL)
    _ = try? holder.wait(deadline: 5)
  }
}

/// A tar archive, byte by byte, with whatever no packer would write.
struct TestArchive {
  private(set) var bytes: [UInt8] = []

  init() {
    add("usr", type: "5", mode: 0o755)
    add("etc", type: "5", mode: 0o755)
  }

  mutating func add(
    _ name: String, type: Character = "0", mode: Int = 0o644, link: String = "", owner: Int = 0, contents: [UInt8] = []
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int, _ length: Int) {
      for (index, byte) in text.utf8.prefix(length).enumerated() { header[offset + index] = byte }
    }
    func octal(_ value: Int, _ digits: Int) -> String {
      let text = String(value, radix: 8)
      return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
    put(name, at: 0, 100)
    put(octal(mode, 7), at: 100, 7)
    put(octal(owner, 7), at: 108, 7)
    put(octal(owner, 7), at: 116, 7)
    put(octal(contents.count, 11), at: 124, 11)
    put(octal(1_700_000_000, 11), at: 136, 11)
    put("        ", at: 148, 8)
    put(String(type), at: 156, 1)
    put(link, at: 157, 100)
    put("ustar\u{0}00", at: 257, 8)
    if type == "3" || type == "4" {
      put(octal(8, 7), at: 329, 7)
      put(octal(0, 7), at: 337, 7)
    }
    put(octal(header.reduce(0) { $0 + Int($1) }, 6) + "\u{0} ", at: 148, 8)
    bytes += header + contents + [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
  }

  /// Writes it, with the two empty blocks at its end unless it is cut off.
  func write(to path: String, cutOffAt end: Int? = nil) throws {
    let whole = bytes + [UInt8](repeating: 0, count: 1024)
    let file = try Descriptor.open(path, [.write, .create, .truncate], mode: 0o644)
    try file.writeAll(Array(whole.prefix(end ?? whole.count)), subject: path)
  }
}
