import CLinux
import Glibc
import SystemPackage

/// Small files as a whole: reading them within bounds, replacing them so that a crash leaves the old one or the new one.
extension Descriptor {
  /// Reads from the current position to the end.
  ///
  /// - Parameters:
  ///   - limit: the greatest number of bytes to accept.
  ///   - subject: what to call the file in an error.
  /// - Throws: `Failure`, also when there is more than `limit`.
  public func readAll(limit: Int = 1 << 20, subject: String) throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = read(raw, &buffer, buffer.count)
      if count < 0 {
        if Glibc.errno == EINTR { continue }
        throw Failure("read", subject, errno: Errno(rawValue: Glibc.errno))
      }
      if count == 0 { return bytes }
      if bytes.count + count > limit { throw Failure("read", subject, "it is larger than \(limit) bytes") }
      bytes += buffer[..<count]
    }
  }

  /// Reads at most so many bytes from the start, fewer when the file is shorter.
  public func readHead(_ count: Int, subject: String) throws(Failure) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: count)
    let length = try check(pread(raw, &buffer, count, 0), "read", subject)
    return Array(buffer.prefix(length))
  }

  /// Writes all of it at the current position.
  ///
  /// - Throws: `Failure` that names the subject.
  public func writeAll(_ bytes: some Sequence<UInt8>, subject: String) throws(Failure) {
    let buffer = Array(bytes)
    var offset = 0
    while offset < buffer.count {
      let count = buffer.withUnsafeBytes { (all: UnsafeRawBufferPointer) -> Int in
        let rest = UnsafeRawBufferPointer(rebasing: all[offset...])
        return write(raw, rest.baseAddress, rest.count)
      }
      if count < 0 {
        if Glibc.errno == EINTR { continue }
        throw Failure("write", subject, errno: Errno(rawValue: Glibc.errno))
      }
      offset += count
    }
  }

  /// Reads a small file in this directory; nil when there is none.
  public func readFile(_ name: String, limit: Int = 1 << 20) throws(Failure) -> [UInt8]? {
    let file: Descriptor
    do {
      file = try open(name, [.read, .noFollow, .nonBlocking], lookup: .beneath)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return nil }
      throw error
    }
    return try file.readAll(limit: limit, subject: name)
  }

  /// Replaces a file in this directory: written to a temporary name, synced, renamed, and the directory synced.
  ///
  /// - Parameters:
  ///   - name: the file's name in this directory.
  ///   - bytes: its new contents.
  ///   - mode: its permission bits.
  ///   - durable: whether to wait until the disk has it; not for a file that a reboot voids anyway.
  public func replaceFile(
    _ name: String, with bytes: some Sequence<UInt8>, mode: UInt32 = 0o600, durable: Bool = true
  ) throws(Failure) {
    let temporary = ".\(name).new"
    let file = try open(temporary, [.write, .create, .truncate, .noFollow], lookup: .beneath, mode: mode)
    do throws(Failure) {
      try file.writeAll(bytes, subject: name)
      if durable { try check(fsync(file.raw), "sync", name) }
      try check(renameat(raw, temporary, raw, name), "put in place", name)
    } catch {
      _ = unlinkat(raw, temporary, 0)
      throw error
    }
    if durable { try check(fsync(raw), "sync the folder of", name) }
  }

  /// Makes a directory in this one and opens it; one that is there already is opened.
  public func makeDirectory(_ name: String, mode: UInt32 = 0o700) throws(Failure) -> Descriptor {
    if mkdirat(raw, name, mode) < 0, Glibc.errno != EEXIST {
      throw Failure("make the folder", name, errno: Errno(rawValue: Glibc.errno))
    }
    return try open(name, [.directory, .noFollow], lookup: .trusted)
  }

  /// The names in this directory, without `.` and `..`, in no order.
  public func names() throws(Failure) -> [String] {
    // A descriptor of its own: reading a directory moves the position that duplicates share.
    let copy = clinux_open_beneath(raw, ".", O_RDONLY | clinux_o_directory, 0, 0)
    try check(copy, "list a folder")
    guard let stream = fdopendir(copy) else {
      let number = Glibc.errno
      close(copy)
      throw Failure("list a folder", errno: Errno(rawValue: number))
    }
    defer { closedir(stream) }
    var result: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
        tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { result.append(name) }
    }
    return result
  }

  /// Takes a lock on this open file. The corresponding C function is `flock`.
  ///
  /// - Parameters:
  ///   - exclusive: whether nobody else may hold it, not even shared.
  ///   - wait: whether to wait for it.
  /// - Returns: false when somebody else holds it.
  public func lock(exclusive: Bool = true, wait: Bool = false) throws(Failure) -> Bool {
    if clinux_flock(raw, exclusive, wait) == 0 { return true }
    if Glibc.errno == EWOULDBLOCK { return false }
    throw Failure("lock a file", errno: Errno(rawValue: Glibc.errno))
  }
}

extension Descriptor {
  /// Where a symbolic link in this directory points to; nil when there is none of that name. The corresponding C
  /// function is `readlinkat`.
  public func linkTarget(_ name: String) -> String? {
    let capacity = 4096
    let target = [CChar](unsafeUninitializedCapacity: capacity) { buffer, count in
      guard let base = buffer.baseAddress else { return }
      count = max(0, readlinkat(raw, name, base, capacity))
    }
    if target.isEmpty { return nil }
    return String(decoding: target.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
