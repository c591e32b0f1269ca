import CLinux
import Glibc
import Linux
import MachinePlan
import MachineSpec
import MachineStore
import StageProtocol
import Varlink

/// The journal of a machine, running or stopped, read by the host's journalctl in a view that shows it the machine's
/// journal folders and nothing else.
///
/// This is not the supervisor of the machine but a process of the operator's, which blocks, and ends with the one who
/// reads.
extension Supervisor {
  private static let journalctl = "/usr/bin/journalctl"
  static let journalFolders = ["/var/log/journal", "/run/log/journal"]

  /// Shows the journal on standard output until all is shown, or when following until the machine stops.
  ///
  /// - Parameters:
  ///   - arguments: of journalctl.
  ///   - follows: whether they make it wait for more.
  ///   - environment: of journalctl, besides its locale.
  /// - Returns: the exit status.
  /// - Throws: `Failure` when it cannot be shown.
  public func showJournal(_ arguments: [String], follows: Bool, environment: [String]) throws -> Int32 {
    guard access(Self.journalctl, X_OK) == 0 else {
      throw Failure(
        "read the journal of", name.description, "this host has no \(Self.journalctl)",
        advice: "apt-get install systemd", kind: .refused)
    }
    let record = try store.record(of: name)
    var request = ViewRequest(
      rootID: record.range.base, mountPoint: store.folder(of: name), source: .running(paths: []),
      folders: Self.journalFolders,
      program: [Self.journalctl, "--no-pager", "--root=\(ViewRequest.place)"] + arguments,
      environment: ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_URLIFY=0"] + environment)
    let running = try openJournal()
    if let running {
      request.source = .running(paths: running.folders.map(\.path))
    } else {
      request.source = .stopped(root: stoppedRoot(record), binds: journalBinds(record))
    }
    // Of its own, with the same ids: the machine's can be joined by its supervisor alone where the host is a user's.
    let users = try UserNamespace(mapping: record.range)
    let viewer = try startView(request, users, trees: running?.folders.map(\.tree) ?? [])
    return try wait(for: viewer, until: follows ? running?.leader : nil)
  }

  /// The leader of the machine and the folders of its journal; nil when it is stopped.
  private func openJournal() throws -> (leader: Pidfd, folders: [(path: String, tree: Descriptor)])? {
    guard try store.isRunning(name) else { return nil }
    do {
      let folder = try Descriptor.open(store.runtimeFolder(of: name), [.directory, .noFollow])
      let socket = try folder.connectSocket(ControlServer.name)
      let client = VarlinkClient(
        descriptor: try check(fcntl(socket.raw, F_DUPFD_CLOEXEC, 3), "keep", "the connection"))
      let reply = try client.call("io.henge.Machine.OpenJournal", timeout: 15000)
      let paths = reply["folders"]?.arrayValue?.compactMap(\.stringValue) ?? []
      let descriptors = client.takeDescriptors()
      guard let leader = descriptors.first, descriptors.count == paths.count + 1 else {
        throw Failure("ask the supervisor of", name.description, "it gave no answer")
      }
      return (Pidfd(leader), Array(zip(paths, descriptors.dropFirst())).map { ($0, $1) })
    } catch let error as VarlinkError {
      let code = error.parameters["code"]?.intValue.flatMap { Int32(exactly: $0) }
      throw Failure(
        line: error.parameters["message"]?.stringValue ?? error.description,
        kind: code.flatMap(Failure.Kind.init) ?? .failed)
    } catch let failure as Failure {
      throw failure.errno == nil
        ? failure : Failure("ask the supervisor of", name.description, "it is starting or stopping just now")
    } catch {
      throw Failure("ask the supervisor of", name.description, "\(error)")
    }
  }

  /// What the machine's files are, merged but never written to: what a start would write to is one more layer.
  private func stoppedRoot(_ record: MachineRecord) -> RootSource {
    let folder = store.folder(of: name)
    switch record.root {
    case .layers(let image, let layers):
      let lower = layers.reversed().map { RootLayer(path: store.layer($0, of: image), mapped: true) }
      return .overlay(layers: [RootLayer(path: "\(folder)/upper", mapped: false)] + lower, upper: .memory)
    case .copy: return .directory("\(folder)/root", mapped: record.shift == .none)
    case .inPlace(let path): return .directory(path, mapped: record.shift == .none)
    }
  }

  /// What of the spec puts something of the host's where the journal is. A spec that cannot be carried out does not keep
  /// anybody from reading what is there without it.
  private func journalBinds(_ record: MachineRecord) -> [Bind] {
    guard let plan = try? makePlan(overrides: []).plan else { return [] }
    return plan.stage.operations.compactMap { operation in
      guard case .bind(var bind) = operation else { return nil }
      let concerns = (Self.journalFolders + ["/etc/machine-id"]).contains { path in
        "\(path)/".hasPrefix("\(bind.path)/") || bind.path.hasPrefix("\(path)/")
      }
      guard concerns else { return nil }
      bind.attributes.insert(.readOnly)
      return bind
    }
  }

  private func startView(
    _ request: ViewRequest, _ users: UserNamespace, trees: [Descriptor]
  ) throws(Failure) -> Pidfd {
    let channel = try spawnView(request, users, trees)
    let end = clinux_monotonic_microseconds() + 10_000_000
    var viewer: Pidfd?
    var isExecuting = false
    while true {
      let now = clinux_monotonic_microseconds()
      var poll = pollfd(fd: channel.socket.raw, events: Int16(POLLIN), revents: 0)
      let ready = now < end ? Glibc.poll(&poll, 1, Int32((end - now) / 1000) + 1) : 0
      if ready < 0, errno == EINTR { continue }
      guard ready > 0 else {
        _ = try? viewer?.signal(SIGKILL)
        _ = try? channel.outer.signal(SIGKILL)
        throw Failure(
          "read the journal of", name.description, "the machine's folders could not be opened in 10 s",
          kind: .timedOut)
      }
      guard let (bytes, descriptor) = try channel.socket.receive() else { break }
      switch try? StageMessage(decoding: bytes) {
      case .leader: viewer = descriptor.map { Pidfd($0) }
      case .executing: isExecuting = true
      case .failed(let failure):
        // A failure of the machine's folders is told as what it means; one of ours as it is.
        throw Failure("read the journal of", name.description, Failure(failure).description)
      default: break
      }
    }
    guard let viewer, isExecuting else {
      throw Failure("read the journal of", name.description, "henge-stage ended without a word")
    }
    return viewer
  }

  /// A function of its own, so that our copy of the stage's end is closed when it returns.
  private func spawnView(
    _ request: ViewRequest, _ users: UserNamespace, _ trees: [Descriptor]
  ) throws(Failure) -> (socket: Descriptor, outer: Pidfd) {
    let pair = try SocketPair(packets: true)
    var spawn = ProcessRequest(
      .descriptor(try Descriptor.sealedProgram(copying: try programs.path(of: "henge-stage"))),
      arguments: ["henge-stage", "view"],
      descriptors: [
        nil, try standard(1), try standard(2), pair.second, try .sealedBytes(request.encoded, name: "request"),
        users.descriptor,
      ] + trees)
    spawn.parentDeathSignal = SIGKILL
    return (pair.first, try spawn.start().process)
  }

  private func standard(_ number: Int32) throws(Failure) -> Descriptor {
    Descriptor(adopting: try check(fcntl(number, F_DUPFD_CLOEXEC, 3), "pass on", "standard descriptors"))
  }

  private func wait(for viewer: Pidfd, until leader: Pidfd?) throws -> Int32 {
    var polls = [viewer, leader].compactMap { $0 }.map {
      pollfd(fd: $0.descriptor.raw, events: Int16(POLLIN), revents: 0)
    }
    while poll(&polls, nfds_t(polls.count), -1) < 0, errno == EINTR {}
    if polls.count > 1, polls[0].revents == 0 {
      // The last words of a machine that stops are read within a moment, or not at all.
      _ = poll(&polls, 1, 300)
      if polls[0].revents == 0 {
        _ = try viewer.signal(SIGKILL)
        _ = try viewer.reap(wait: true)
        log.notice("\(name) has stopped, and with it its journal")
        return 0
      }
    }
    switch try viewer.reap(wait: true) {
    case .exited(let status): return status
    case .signalled(let number): return 128 + number
    case nil: return 1
    }
  }
}
