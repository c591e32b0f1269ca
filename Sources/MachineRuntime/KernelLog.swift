import Glibc
import Linux

/// Who was killed for want of memory, as far as it is known. The texts are the machine's own.
struct OOMVictim: Equatable {
  var process: String?
  var id: Int32?
  var unit: String?
}

/// The kernel's log from now on, where this process may read it, for what it says about the processes of one machine.
final class KernelLog {
  private let file: Descriptor
  private let uids: Range<UInt32>

  init?(uids: Range<UInt32>) {
    guard let file = try? Descriptor.open("/dev/kmsg", [.read, .nonBlocking]) else { return nil }
    lseek(file.raw, 0, SEEK_END)
    self.file = file
    self.uids = uids
  }

  /// The machine's last victim among the records since the last call.
  func victim() -> OOMVictim? {
    var found: OOMVictim?
    var buffer = [UInt8](repeating: 0, count: 8192)
    // One record a read; a flood of them is left for the next time.
    for _ in 0..<4096 {
      let count = read(file.raw, &buffer, buffer.count)
      if count < 0, errno == EPIPE || errno == EINTR { continue }
      guard count > 0 else { break }
      let record = String(decoding: buffer[..<count], as: UTF8.self)
      guard let (victim, uid) = Self.victim(in: record), uids.contains(uid) else { continue }
      if let before = found, before.id == victim.id {
        found?.process = victim.process ?? before.process
        found?.unit = victim.unit ?? before.unit
      } else {
        found = victim
      }
    }
    return found
  }

  /// Reads a record of `/dev/kmsg`. Names of processes and of groups are the machine's, and may look like anything: so
  /// the user, by which the record is known to be this machine's, is read from where no name can come after it.
  static func victim(in record: String) -> (OOMVictim, uid: UInt32)? {
    guard let semicolon = record.firstIndex(of: ";"),
      // Above 7 it was not the kernel who wrote it.
      let level = UInt32(record.prefix { $0 != "," }), level < 8
    else { return nil }
    let text = record[record.index(after: semicolon)...].prefix { $0 != "\n" }
    if text.hasPrefix("oom-kill:constraint=") { return context(text) }
    let start = "Memory cgroup out of memory: Killed process "
    guard text.hasPrefix(start) else { return nil }
    let rest = text.dropFirst(start.count)
    guard let id = Int32(rest.prefix { $0 != " " }), let open = rest.firstIndex(of: "("),
      let (before, after) = cut(rest, last: " UID:"), let uid = UInt32(after.prefix { $0 != " " }),
      let (name, _) = cut(before[before.index(after: open)...], last: ") total-vm:")
    else { return nil }
    return (OOMVictim(process: String(name), id: id), uid)
  }

  private static func context(_ text: Substring) -> (OOMVictim, uid: UInt32)? {
    guard let (rest, user) = cut(text, last: ",uid="), let uid = UInt32(user),
      let (head, number) = cut(rest, last: ",pid="), let id = Int32(number),
      let (groups, name) = cut(head, last: ",task="), let (_, group) = cut(groups, last: ",task_memcg=")
    else { return nil }
    let parts = group.split(separator: "/")
    let unit = parts.firstIndex(of: "payload").flatMap { parts[($0 + 1)...].last }
    return (OOMVictim(process: String(name), id: id, unit: unit.map(String.init)), uid)
  }

  private static func cut(_ text: Substring, last separator: String) -> (Substring, Substring)? {
    var end = text.endIndex
    while end > text.startIndex {
      end = text.index(before: end)
      if text[end...].hasPrefix(separator) {
        return (text[..<end], text[text.index(end, offsetBy: separator.count)...])
      }
    }
    return nil
  }
}
