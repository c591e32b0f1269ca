import MachineSpec
import StageProtocol

/// What every machine finds, and what of the kernel it does not.
extension Planner {
  mutating func checkInit() {
    operations.append(.checkInit(candidates: Self.initCandidates, architecture: host.architecture))
  }

  mutating func makeSkeleton() {
    for path in ["/dev", "/proc", "/sys", "/run", "/etc"] { operations.append(.directory(path, mode: 0o755)) }
    operations += [
      .directory("/tmp", mode: 0o1777),
      .memory(
        "/run", kind: .tmpfs, mode: 0o755, options: ["size=20%", "nr_inodes=800k"],
        attributes: [.noSetID, .noDevices]),
    ]
    if spec.files.volatile == .state {
      operations.append(
        .memory("/var", kind: .tmpfs, mode: 0o755, options: ["size=50%"], attributes: [.noSetID, .noDevices]))
    }
  }

  /// A sysfs shows a network namespace, and the kernel mounts one only for who owns that: a machine that shares the
  /// host's gets the host's to look at.
  mutating func showHostsSysfs() {
    guard sharesNetwork else { return }
    // Without what is mounted below it; in an ordinary user's namespace the kernel gives no part of it without the rest.
    operations.append(
      .bind(
        Bind(
          source: "/sys", path: "/sys", recursive: host.privilege != .root, mapped: false, optional: false,
          attributes: [.readOnly, .noSetID, .noDevices, .noExecute])))
  }

  mutating func makeDevices() {
    operations.append(
      .memory("/dev", kind: .tmpfs, mode: 0o755, options: ["size=4m", "nr_inodes=64k"], attributes: .noSetID))
    for (name, major, minor) in [
      ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    ] as [(String, UInt32, UInt32)] {
      operations.append(.device("/dev/\(name)", major: major, minor: minor))
    }
    // What it can do ends at the machine's own network namespace, where the machine may do everything anyway.
    if host.network.hasTun { operations.append(.device("/dev/net/tun", major: 10, minor: 200)) }
    operations += [
      .directory("/dev/pts", mode: 0o755), .directory("/dev/mqueue", mode: 0o755),
      .memory("/dev/shm", kind: .tmpfs, mode: 0o1777, options: ["size=50%"], attributes: [.noSetID, .noDevices]),
      .symbolicLink("/dev/ptmx", target: "pts/ptmx"),
      .symbolicLink("/dev/fd", target: "/proc/self/fd"),
      .symbolicLink("/dev/stdin", target: "/proc/self/fd/0"),
      .symbolicLink("/dev/stdout", target: "/proc/self/fd/1"),
      .symbolicLink("/dev/stderr", target: "/proc/self/fd/2"),
      .file("/dev/console", mode: 0o600, contents: []),
    ]
  }

  /// `/run/host`: the container interface's way of telling a machine about what it runs on. Sealed once the notify
  /// socket and the credentials are in it.
  mutating func makeHostFolder() {
    operations += [
      .memory(
        "/run/host", kind: .tmpfs, mode: 0o755, options: ["size=4m"], attributes: [.noSetID, .noDevices, .noExecute]),
      .file("/run/host/os-release", mode: 0o444, contents: host.osRelease),
      .file("/run/host/container-manager", mode: 0o444, contents: Array("henge\n".utf8)),
      .file("/run/host/container-uuid", mode: 0o444, contents: Array("\(machine.uuid)\n".utf8)),
      .inaccessibleNodes("/run/host/inaccessible"),
      .directory("/run/host/incoming", mode: 0o755),
      // For the machine's root alone: the kernel lets a nested container mount a proc or sysfs of its own only where
      // one without covers is in sight.
      .directory("/run/host/unmasked", mode: 0o700),
      .directory("/run/host/unmasked/proc", mode: 0o755),
      .directory("/run/host/unmasked/sys", mode: 0o755),
      .notifySocket("/run/host/notify"),
      // systemd would make it itself; being there before, it can be watched for the private socket that appears in it.
      .watchedFolder("/run/systemd", mode: 0o755),
    ]
  }

  /// Generators of systemd's own that find out in a container that there is nothing for them to do: no disk to find
  /// partitions on, no image to wake from, no boot loader, no firmware's word of a TPM, no device mapper in a user
  /// namespace; and those that read only process 1's parameters and credentials, where it has none for them. Every boot
  /// and every reload runs all there are, each a program to load; a link to nothing is systemd's way to leave one out
  /// (systemd.generator(7)).
  mutating func leaveOutIdleGenerators() {
    let folder = "/run/systemd/system-generators"
    operations.append(.directory(folder, mode: 0o755))
    var names = ["gpt-auto", "hibernate-resume", "bless-boot", "tpm2", "cryptsetup", "integritysetup", "veritysetup"]
    if spec.machine.parameters.isEmpty, !hasCredentials { names += ["debug", "run"] }
    for name in names { operations.append(.symbolicLink("\(folder)/systemd-\(name)-generator", target: "/dev/null")) }
  }

  var hasCredentials: Bool { !spec.exec.setCredentials.isEmpty || !machine.loadedCredentials.isEmpty }

  mutating func makeCredentials() {
    guard hasCredentials else { return }
    let folder = "/run/host/credentials"
    operations.append(
      .memory(folder, kind: .ramfs, mode: 0o700, options: [], attributes: [.noSetID, .noDevices, .noExecute]))
    // As in systemd a value written down is the fallback for one loaded under the same name, so it comes first.
    let set = spec.exec.setCredentials.map { ($0.name.description, $0.value) }
    for (name, value) in set + machine.loadedCredentials.map({ ($0.name, $0.value) }) {
      operations.append(.file("\(folder)/\(name)", mode: 0o400, contents: value))
    }
    operations.append(.sealMount(folder))
  }

  mutating func makeOperatorsMounts() {
    for mount in spec.files.mounts {
      switch mount {
      case .temporary(let memory):
        var options = memory.options
        var mode: UInt32 = 0o755
        if let index = options.firstIndex(where: { $0.hasPrefix("mode=") }) {
          mode = UInt32(options.remove(at: index).dropFirst(5), radix: 8) ?? mode
        }
        let (flags, rest) = MountFlags.split(options)
        operations.append(
          .memory(
            memory.path.description, kind: .tmpfs, mode: mode, options: rest,
            attributes: flags.union([.noSetID, .noDevices])))
      case .bind(let bind) where bind.source == bind.destination && bind.source.description == "/dev/net/tun":
        // Every machine has it.
        if !host.network.hasTun && !bind.isOptional { append(bind, attributes: []) }
      case .bind(let bind) where bind.source == bind.destination && bind.source.description == "/dev/fuse":
        operations.append(.device("/dev/fuse", major: 10, minor: 229))
      case .unlayered(let folder): appendUnlayered(folder.path.description)
      case .bind(let bind): append(bind, attributes: [])
      case .bindReadOnly(let bind): append(bind, attributes: .readOnly)
      }
    }
  }

  private mutating func append(_ bind: BindMount, attributes: MountFlags) {
    let mapped = bind.idMapping != .noidmap
    if bind.idMapping == .rootidmap || bind.idMapping == .owneridmap {
      warnings.append(
        "Bind=\(bind.source): \(bind.idMapping) is taken as idmap: the host's root shows as the machine's root")
    }
    operations.append(
      .bind(
        Bind(
          source: bind.source.description, path: bind.destination.description, recursive: bind.isRecursive,
          mapped: mapped, optional: bind.isOptional, attributes: attributes)))
  }

  /// Where the root is no overlay there is nothing to do: what is below the folder is a plain file system then.
  private mutating func appendUnlayered(_ path: String) {
    for case .root(.overlay(_, let upper, _), _) in operations {
      switch upper {
      case .directory(let upper, _): return operations.append(.unlayered(path, upper: upper))
      case .memory:
        let attributes: MountFlags = [.noSetID, .noDevices]
        return operations.append(
          .memory(path, kind: .tmpfs, mode: 0o755, options: ["size=50%"], attributes: attributes))
      }
    }
  }

  /// What shows the new namespaces, mounted from inside them, and what of it is covered.
  mutating func mountKernel() {
    let strict: MountFlags = [.noSetID, .noDevices, .noExecute]
    operations += [
      .mount(filesystem: "proc", path: "/proc", options: [], attributes: strict)
    ]
    if !sharesNetwork {
      operations.append(.mount(filesystem: "sysfs", path: "/sys", options: [], attributes: strict.union(.readOnly)))
    }
    operations += [
      .mount(filesystem: "cgroup2", path: "/sys/fs/cgroup", options: [], attributes: strict),
      .mount(filesystem: "mqueue", path: "/dev/mqueue", options: [], attributes: strict),
      .mount(
        filesystem: "devpts", path: "/dev/pts", options: ["mode=0620", "gid=5", "ptmxmode=0666"],
        attributes: [.noSetID, .noExecute]),
      .console("/dev/console", devpts: "/dev/pts"),
      .mount(filesystem: "proc", path: "/run/host/unmasked/proc", options: [], attributes: strict),
    ]
    if !sharesNetwork {
      operations.append(
        .mount(
          filesystem: "sysfs", path: "/run/host/unmasked/sys", options: [],
          attributes: host.hasReadOnlySysfs ? strict.union(.readOnly) : strict))
    }
    for path in [
      "/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/kmsg", "/proc/sysrq-trigger", "/proc/timer_list",
      "/proc/sched_debug", "/proc/latency_stats", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup",
      "/proc/acpi", "/proc/scsi", "/sys/firmware",
    ] { operations.append(.mask(path)) }
  }
}

extension MountFlags {
  /// Takes the words that mean a flag of the mount out of a list of options.
  static func split(_ options: [String]) -> (MountFlags, [String]) {
    var flags: MountFlags = []
    let rest = options.filter { option in
      switch option {
      case "ro": flags.insert(.readOnly)
      case "nosuid": flags.insert(.noSetID)
      case "nodev": flags.insert(.noDevices)
      case "noexec": flags.insert(.noExecute)
      case "rw", "suid", "dev", "exec": break
      default: return true
      }
      return false
    }
    return (flags, rest)
  }
}
