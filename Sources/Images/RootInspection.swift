import CLinux
import Linux

/// What a root file system says of itself, read beneath it and believed to be anything.
enum RootInspection {
  private static let largest = 64 << 10

  /// The fields of `etc/os-release` or `usr/lib/os-release`; none when there is no such file.
  static func osRelease(_ root: Int32) -> [String: String] {
    for path in ["etc/os-release", "usr/lib/os-release"] {
      guard let bytes = read(root, path, largest) else { continue }
      return fields(bytes)
    }
    return [:]
  }

  /// The machine that the init was built for, in systemd's words.
  static func architecture(_ root: Int32) -> String? {
    for path in ["usr/sbin/init", "sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd", "bin/init"] {
      guard let bytes = read(root, path, nil), let name = elfMachine(bytes) else { continue }
      return name
    }
    return nil
  }

  /// Reads a regular file beneath a root as the root's own processes would find it: absolute links begin at the root.
  private static func read(_ root: Int32, _ path: String, _ limit: Int?) -> [UInt8]? {
    let handle = clinux_openat2(
      root, path, CLINUX_O_PATH, 0,
      CLINUX_RESOLVE_IN_ROOT | CLINUX_RESOLVE_NO_MAGICLINKS | CLINUX_RESOLVE_NO_XDEV)
    if handle < 0 { return nil }
    let file = OwnedDescriptor(handle)
    // Before it is opened for reading: opening a device or a FIFO does something.
    guard let stat = try? Calls.stat(file.raw, Calls.itself, path: path), stat.isRegular else { return nil }
    let opened = clinux_reopen(file.raw, 0)
    if opened < 0 { return nil }
    let data = OwnedDescriptor(opened)
    if let limit { return try? Calls.readAll(data.raw, limit: limit, path: path) }
    var head = [UInt8](repeating: 0, count: 20)
    let count = clinux_read(data.raw, &head, head.count)
    return count == head.count ? head : nil
  }

  static func elfMachine(_ head: [UInt8]) -> String? {
    guard head.count >= 20, head[0] == 0x7f, head[1] == 69, head[2] == 76, head[3] == 70 else { return nil }
    let is64 = head[4] == 2
    let isLittle = head[5] == 1
    let machine = isLittle ? UInt16(head[18]) | UInt16(head[19]) << 8 : UInt16(head[19]) | UInt16(head[18]) << 8
    switch machine {
    case 3: return "x86"
    case 8: return (is64 ? "mips64" : "mips") + (isLittle ? "-le" : "")
    case 20: return "ppc" + (isLittle ? "-le" : "")
    case 21: return "ppc64" + (isLittle ? "-le" : "")
    case 22: return is64 ? "s390x" : "s390"
    case 40: return "arm" + (isLittle ? "" : "-be")
    case 62: return "x86-64"
    case 183: return "arm64" + (isLittle ? "" : "-be")
    case 243: return is64 ? "riscv64" : "riscv32"
    case 258: return "loongarch64"
    default: return "elf-\(machine)"
    }
  }

  /// `KEY=value` lines, the values quoted as a shell would.
  static func fields(_ bytes: [UInt8]) -> [String: String] {
    var result: [String: String] = [:]
    for line in bytes.split(separator: 10) {
      guard let equals = line.firstIndex(of: 61), line.first != 35 else { continue }
      let key = String(decoding: line[..<equals], as: UTF8.self)
      var rest = line[(equals + 1)...]
      var value: [UInt8] = []
      var quote: UInt8?
      while let byte = rest.popFirst() {
        if byte == 92 && quote != 39 {
          if let next = rest.popFirst() { value.append(next) }
        } else if quote == nil && (byte == 34 || byte == 39) {
          quote = byte
        } else if byte == quote {
          quote = nil
        } else if quote == nil && (byte == 32 || byte == 9 || byte == 13) {
          break
        } else {
          value.append(byte)
        }
      }
      result[key] = String(decoding: value.prefix(256), as: UTF8.self)
    }
    return result
  }
}
