import Glibc
import Linux
import Systemd

/// Sees the kernel kill processes of a machine for want of memory, by the counter in the group's `memory.events`.
final class MemoryWatch {
  private let group: CgroupDirectory
  private let events: Descriptor
  private let onKill: (_ count: UInt64, _ victim: OOMVictim) -> Void
  private let log: KernelLog?
  private var kills: UInt64
  /// Kills that each group of the machine's counted itself.
  private var local: [String: UInt64] = [:]
  private var source: EventLoop.Source?
  private var rest: EventLoop.Source?

  /// Watches a group and all in it; nil where nothing counts memory.
  ///
  /// - Parameters:
  ///   - uids: the machine's users on this host, by which its processes are told from others'.
  ///   - onKill: told how many were killed since it was told last, and the last of them as far as it is known.
  init?(
    _ group: CgroupDirectory, uids: Range<UInt32>, on loop: EventLoop,
    onKill: @escaping (_ count: UInt64, _ victim: OOMVictim) -> Void
  ) throws {
    guard let events = try? group.descriptor.open("memory.events", .read, lookup: .beneath) else { return nil }
    self.group = group
    self.events = events
    self.onKill = onKill
    log = KernelLog(uids: uids)
    kills = 0
    kills = count()
    // High and low events come here too, a hundred a second: after each the watch rests for a while.
    rest = try loop.addTimer(after: 100_000, accuracy: 10_000) { [unowned self] in
      look()
      try? source?.setEnabled(true)
    }
    try rest?.setEnabled(false)
    source = try loop.addIO(events.raw, .priority) { [unowned self] _ in
      look()
      try? source?.setEnabled(false)
      try? rest?.rearm(after: 100_000)
    }
  }

  /// Looks whether anything was killed since.
  func look() {
    let now = count()
    guard now > kills else { return }
    let killed = now - kills
    kills = now
    var victim = log?.victim() ?? OOMVictim()
    let unit = unitWithKills()
    if victim.unit == nil { victim.unit = unit }
    onKill(killed, victim)
  }

  private func count() -> UInt64 {
    // Reading it from the start is what arms the kernel's notification for the next change.
    lseek(events.raw, 0, SEEK_SET)
    guard let bytes = try? events.readAll(limit: 4096, subject: "memory.events") else { return kills }
    return Self.kills(in: String(decoding: bytes, as: UTF8.self)) ?? kills
  }

  static func kills(in text: String) -> UInt64? {
    text.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }.flatMap { UInt64($0.dropFirst(9)) }
  }

  /// The group of the machine's whose own counter grew, which is a unit of its systemd. The machine makes these groups:
  /// they are opened beneath what is ours, and not all of many.
  private func unitWithKills() -> String? {
    var budget = 2048
    var found: String?
    func walk(_ folder: Descriptor, _ path: String, _ depth: Int) {
      guard depth < 16, budget > 0 else { return }
      for name in (try? folder.names()) ?? [] {
        guard budget > 0, (try? folder.status(of: name))??.kind == .directory,
          let child = try? folder.open(name, [.directory, .noFollow], lookup: .beneath)
        else { continue }
        budget -= 1
        let place = "\(path)/\(name)"
        let bytes = (try? child.readFile("memory.events.local", limit: 4096)) ?? nil
        let now = bytes.flatMap { Self.kills(in: String(decoding: $0, as: UTF8.self)) } ?? 0
        if now > local[place] ?? 0 {
          local[place] = now
          found = name
        }
        walk(child, place, depth + 1)
      }
    }
    guard let payload = try? group.descriptor.open("payload", [.directory, .noFollow], lookup: .beneath) else {
      return nil
    }
    walk(payload, "", 0)
    return found
  }
}
