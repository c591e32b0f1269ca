import CLinux
import Glibc
import Images
import Linux
import SystemPackage
import Testing

let isRoot = geteuid() == 0

/// A folder that goes with its owner.
final class TemporaryFolder {
  let path: String

  init() throws {
    var template = "/tmp/henge-images-XXXXXX".asName
    guard mkdtemp(&template) != nil else { throw Failure("make", "a temporary folder", errno: .ioError) }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { _ = try? run(["rm", "-rf", path]) }

  func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}

struct Outcome {
  var status: Int32
  var output: String
  /// The lines that the program meant for a reader.
  var isClear: Bool {
    !output.contains("Fatal error") && output.split(separator: "\n").allSatisfy { $0.utf8.count < 500 }
  }
}

func spawn(_ arguments: [String], output: Int32) throws -> pid_t {
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
  posix_spawn_file_actions_adddup2(&actions, output, 1)
  posix_spawn_file_actions_adddup2(&actions, output, 2)
  var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
  defer { for pointer in vector { free(pointer) } }
  var pid: pid_t = 0
  let result = posix_spawnp(&pid, arguments[0], &actions, nil, &vector, environ)
  if result != 0 { throw Failure("run", arguments[0], errno: Errno(rawValue: result)) }
  return pid
}

/// The program's exit code, or 128 and the signal that ended it.
func wait(_ pid: pid_t) -> Int32 {
  var status: Int32 = 0
  while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
  return status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
}

@discardableResult
func run(_ arguments: [String]) throws -> Outcome {
  // O_TMPFILE
  let file = try FileDescriptor.open(
    "/tmp", .readWrite, options: [.init(rawValue: 0o20200000), .closeOnExec], permissions: [.ownerRead, .ownerWrite])
  defer { try? file.close() }
  let status = wait(try spawn(arguments, output: file.rawValue))
  var bytes = [UInt8](repeating: 0, count: 8 << 20)
  let count = try bytes.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: 0, into: $0) }
  return Outcome(status: status, output: String(decoding: bytes[..<count], as: UTF8.self))
}

/// Runs a program that must do well.
@discardableResult
func must(_ arguments: [String]) throws -> String {
  let outcome = try run(arguments)
  try #require(outcome.status == 0, "\(arguments): \(outcome.output)")
  return outcome.output
}

func shell(_ script: String, in folder: String) throws {
  try must(["bash", "-euc", "cd \(folder); \(script)"])
}

/// Everything about a tree, one line an entry, and its extended attributes.
func describe(_ path: String) throws -> String {
  let entries = try must(["find", path, "-printf", "%P|%y|%m|%U|%G|%n|%T@|%l|%s\n"])
    .split(separator: "\n").sorted()
    .map { line in line.split(separator: "|", omittingEmptySubsequences: false) }
    // A folder's size is the file system's affair.
    .map { $0.count > 8 && $0[1] == "d" ? $0.dropLast().joined(separator: "|") : $0.joined(separator: "|") }
  let attributes = try run(["bash", "-c", "cd '\(path)' && getfattr -Rh -d -m - -e hex . 2>/dev/null"]).output
  return entries.joined(separator: "\n") + "\n" + attributes
}

func open(_ path: String) throws -> FileDescriptor { try FileDescriptor.open(FilePath(path), .readOnly) }

/// The built program, beside the tests.
let program: String = {
  var buffer = [CChar](repeating: 0, count: 4096)
  let count = readlink("/proc/self/exe", &buffer, 4095)
  let own = String(decoding: buffer[..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  // The tests are a bundle that is loaded, or a program, depending on the toolchain.
  for argument in [own] + CommandLine.arguments where argument.contains("/") {
    let folder = argument.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    if access(folder + "/henge-import", X_OK) == 0 { return folder + "/henge-import" }
  }
  return "henge-import"
}()

/// A root file system with one of everything.
func makeRoot(_ path: String) throws {
  try must(["mkdir", path])
  try shell(
    """
    mkdir -p usr/bin usr/sbin etc acl deep/er; ln -s usr/bin bin; ln -s usr/sbin sbin
    cp /bin/true usr/bin/true; cp /bin/true usr/bin/cap; setcap cap_net_raw=ep usr/bin/cap
    cp /bin/true usr/bin/suid; chmod 6755 usr/bin/suid; ln usr/bin/suid deep/er/suid
    echo a > usr/bin/sgid; chown 0:42 usr/bin/sgid; chmod 2755 usr/bin/sgid; ln -s /etc/passwd abs; ln -s gone dangling
    python3 -c "import os,struct; open('c3','w'); \
    os.setxattr('c3','security.capability',struct.pack('<6I',0x03000001,0x2000,0,0,0,1000))"
    echo acl > acl/file; setfacl -m u:33:rw,g:44:r acl/file; setfacl -m d:u:33:rwx,d:g:44:rx,u:7:rwx acl
    setfattr -n user.note -v hello acl/file; mkfifo fifo; truncate -s 3M sparse; echo end >> sparse
    cp /etc/passwd /etc/group etc
    printf 'PRETTY_NAME="Test \\\\"OS\\\\""\\nID=test\\nVERSION_ID=1\\n' > etc/os-release
    cp /bin/true usr/sbin/init; mkdir -m 1777 tmp; chown 33:33 acl; chmod 2775 acl
    touch -h -d @1000.123456789 acl/file dangling deep/er acl; touch -d @5.000000001 deep .
    """, in: path)
}
