import Glibc
import Linux

// What the host shows: the tests believe this and not what the programs say of themselves.

/// How hengectl sees the host's control groups.
enum HostView: String, CaseIterable, Sendable {
  /// As the host has them: on a hybrid host version 1 hierarchies with version 2 beside them.
  case hybrid
  /// In a mount namespace of its own with nothing but version 2.
  case pure

  /// The command that gives a program this view; every program gets a fresh one.
  var prefix: [String] {
    guard self == .pure else { return [] }
    return [
      "unshare", "--mount", "--propagation", "private", "sh", "-c",
      "mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"", "sh",
    ]
  }
}

enum Host {
  /// Where the host has control groups of version 2.
  static let cgroupMount: String? = {
    let mounts = (read("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line -> String? in
      let fields = line.split(separator: " ")
      guard let dash = fields.firstIndex(of: "-"), dash + 1 < fields.count, fields[dash + 1] == "cgroup2" else {
        return nil
      }
      return String(fields[4])
    }
    return mounts.last
  }()

  /// Whether version 1 hierarchies are mounted beside version 2.
  static let isHybrid = cgroupMount.map { $0 != "/sys/fs/cgroup" } ?? false

  /// A process's field of `/proc/PID/status`.
  static func status(_ process: Int32, _ field: String) -> String? {
    for line in (read("/proc/\(process)/status") ?? "").split(separator: "\n") where line.hasPrefix("\(field):") {
      return trimmed(String(line.dropFirst(field.utf8.count + 1)))
    }
    return nil
  }

  /// The kind and number of a process's namespace.
  static func namespace(_ process: String, _ kind: String) -> String? {
    Descriptor.currentDirectory.linkTarget("/proc/\(process)/ns/\(kind)")
  }

  /// The control group of version 2 that a process is in.
  static func cgroup(_ process: Int32) -> String? {
    for line in (read("/proc/\(process)/cgroup") ?? "").split(separator: "\n") where line.hasPrefix("0::") {
      return String(line.dropFirst(3))
    }
    return nil
  }

  static var processes: [Int32] { names(in: "/proc").compactMap { Int32($0) } }

  /// Live processes with a user id in a range, as `PID (comm)`.
  static func processes(ofUIDs range: ClosedRange<UInt32>) -> [String] {
    processes.compactMap { process in
      if status(process, "State")?.hasPrefix("Z") ?? true { return nil }
      let ids = (status(process, "Uid") ?? "").split(whereSeparator: { $0 == "\t" || $0 == " " })
      guard ids.contains(where: { UInt32($0).map(range.contains) ?? false }) else { return nil }
      return "\(process) (\(status(process, "Name") ?? "?"))"
    }
  }

  /// Everything below a folder, with the folder's path.
  static func tree(_ folder: String) -> Set<String> {
    var result = Set<String>()
    for name in names(in: folder) {
      let path = "\(folder)/\(name)"
      result.insert(path)
      var status = stat()
      if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { result.formUnion(tree(path)) }
    }
    return result
  }
}

/// What is there on the host, as far as it belongs to somebody.
struct Snapshot: Equatable {
  /// What of the host is looked at.
  enum Scope {
    /// All of it; only for hosts where nobody else works.
    case everything
    /// What carries the tag of a sandbox in its path, name, control group or environment.
    case sandbox(folder: String, tag: String)
    /// What no test may change for longer than it runs: mounts in our namespace, loop devices, interfaces.
    case shared
  }

  var mounts = Set<String>()
  var groups = Set<String>()
  var processes = Set<String>()
  var interfaces = Set<String>()
  var loops = Set<String>()
  var files = Set<String>()

  init(_ scope: Scope) {
    mounts = Set((read("/proc/self/mountinfo") ?? "").split(separator: "\n").map(Self.withoutTags))
    interfaces = Set(names(in: "/sys/class/net"))
    for device in names(in: "/sys/block") where device.hasPrefix("loop") {
      if let file = read("/sys/block/\(device)/loop/backing_file") { loops.insert("\(device): \(trimmed(file))") }
    }
    switch scope {
    case .shared: break
    case .everything:
      groups = Self.groups { _ in true }
      processes = Self.processes { _ in true }
    case .sandbox(let folder, let tag):
      mounts = mounts.filter { $0.contains(folder) || $0.contains(tag) }
      loops = loops.filter { $0.contains(folder) }
      interfaces = interfaces.filter { $0.contains(tag) }
      groups = Self.groups { $0.contains(tag) }
      processes = Self.processes { process in
        if Host.cgroup(process)?.contains(tag) ?? false { return true }
        return read("/proc/\(process)/environ")?.contains(folder) ?? false
      }
      files = Host.tree("\(folder)/run")
    }
  }

  /// What is in one and not in the other, a line for each thing; empty when they are equal.
  func difference(from before: Snapshot) -> [String] {
    func lines(_ kind: String, _ part: KeyPath<Snapshot, Set<String>>) -> [String] {
      let (old, new) = (before[keyPath: part], self[keyPath: part])
      return new.subtracting(old).sorted().map { "+ \(kind) \($0)" }
        + old.subtracting(new).sorted().map { "- \(kind) \($0)" }
    }
    return lines("mount", \.mounts) + lines("cgroup", \.groups) + lines("process", \.processes)
      + lines("interface", \.interfaces) + lines("loop device", \.loops) + lines("file", \.files)
  }

  /// Without what a mount of somebody else's can change: the peer groups.
  private static func withoutTags(_ line: Substring) -> String {
    line.split(separator: " ").filter { !$0.hasPrefix("shared:") && !$0.hasPrefix("master:") }.joined(separator: " ")
  }

  private static func groups(_ isWanted: (String) -> Bool) -> Set<String> {
    guard let mount = Host.cgroupMount else { return [] }
    var result = Set<String>()
    func walk(_ folder: String) {
      for name in names(in: folder) {
        let path = "\(folder)/\(name)"
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { continue }
        if isWanted(path) { result.insert(path) }
        walk(path)
      }
    }
    walk(mount)
    return result
  }

  private static func processes(_ isWanted: (Int32) -> Bool) -> Set<String> {
    var result = Set<String>()
    for process in Host.processes where process != getpid() {
      guard let text = read("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { continue }
      // After the name: state, parent, … and as the 20th the time of the start.
      let fields = text[text.index(after: end)...].split(separator: " ")
      guard fields.count > 19, let parent = Int32(fields[1]), parent != 2, process != 2, isWanted(process) else {
        continue
      }
      let isZombie = fields[0] == "Z"
      // An orphan that has ended is nobody's but the host's init's, which may take its time.
      if isZombie && parent != getpid() && !isWanted(parent) { continue }
      result.insert("\(text[...end]) \(isZombie ? "zombie " : "")since \(fields[19])")
    }
    return result
  }
}
