import Glibc
import Testing

/// The two ends of a pipe.
final class Pipe {
  let reader: Int32
  let writer: Int32

  init() throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    reader = ends[0]
    writer = ends[1]
  }

  deinit {
    close(reader)
    close(writer)
  }

  func write(_ bytes: [UInt8]) {
    #expect(Glibc.write(writer, bytes, bytes.count) == bytes.count)
  }
}

/// A folder that goes away with the value, once it is empty.
final class TemporaryFolder {
  let path: String

  init() throws {
    var template = Array("/tmp/henge-test-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { rmdir(path) }
}

/// Starts a program with the default signal mask.
func spawn(_ arguments: String..., output: Int32? = nil) throws -> pid_t {
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  if let output { posix_spawn_file_actions_adddup2(&actions, output, 1) }
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
  var vector = arguments.map { strdup($0) } + [nil]
  defer { for argument in vector { free(argument) } }
  var pid: pid_t = 0
  try #require(posix_spawn(&pid, arguments[0], &actions, nil, &vector, environ) == 0)
  return pid
}

/// The open descriptors of this process that are not those of its thread pool or of other tests: those of one kind.
func descriptors(to prefix: String) -> Int {
  guard let folder = opendir("/proc/self/fd") else { return -1 }
  defer { closedir(folder) }
  var count = 0
  while let entry = readdir(folder) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    var target = [CChar](repeating: 0, count: 4096)
    let length = max(readlink("/proc/self/fd/\(name)", &target, target.count), 0)
    if String(decoding: target.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self).hasPrefix(prefix) {
      count += 1
    }
  }
  return count
}

/// The C library has it since 2.36, in a header that Swift's module of it leaves out.
@_silgen_name("pidfd_open")
func openPidfd(_ pid: pid_t, _ flags: UInt32) -> Int32

/// Sends text together with copies of descriptors.
func send(_ text: String, to socket: Int32, with descriptors: [Int32]) {
  var bytes = Array(text.utf8)
  let length = MemoryLayout<cmsghdr>.size + descriptors.count * 4
  var control = [UInt8](repeating: 0, count: (length + 7) & ~7)
  var header = cmsghdr()
  header.cmsg_len = numericCast(length)
  header.cmsg_level = SOL_SOCKET
  header.cmsg_type = 1
  withUnsafeBytes(of: &header) { control.replaceSubrange(0..<$0.count, with: $0) }
  descriptors.withUnsafeBytes { control.replaceSubrange(MemoryLayout<cmsghdr>.size..<length, with: $0) }
  let sent = bytes.withUnsafeMutableBytes { bytes in
    control.withUnsafeMutableBytes { control in
      var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      return withUnsafeMutablePointer(to: &vector) { vector in
        var message = msghdr()
        message.msg_iov = vector
        message.msg_iovlen = 1
        message.msg_control = control.baseAddress
        message.msg_controllen = numericCast(control.count)
        return sendmsg(socket, &message, Int32(MSG_DONTWAIT))
      }
    }
  }
  #expect(sent == bytes.count)
}
