import CLinux
import Glibc
import Images
import Linux
import StageProtocol
import TreeStream

/// The end of a copy that is in the machine. Root and mounts are the machine's here: wherever it makes a path lead to,
/// that is in the machine. The host's end of the stream is all there is of the host.
func copy(_ request: CopyRequest, channel: Channel) throws(Failure) {
  // The other end may end at any time; that is an error of the write.
  signal(SIGPIPE, SIG_IGN)
  umask(0)
  let stream = Descriptor(adopting: StageDescriptor.stream)
  var policy = TreePolicy()
  policy.squashesIDs = request.options.contains(.squashIDs)
  policy.skipsSpecial = request.options.contains(.skipSpecial)
  for path in request.paths where !path.hasPrefix("/") {
    throw Failure("copy", path, "in a machine, a path must begin with '/'", kind: .usage)
  }
  do {
    switch request.direction {
    case .into:
      guard let path = request.paths.first else { throw Failure("copy", nil, "there is no destination", kind: .usage) }
      let receiver = TreeReceiver(reader(stream), policy: policy)
      let options = Destination.Options(request.options)
      let destination = try Destination(path, options: options, on: .machine)
      let summary = try Staging.receive(into: destination, receiver, options: options)
      try tell(summary, receiver.policy, channel)
    case .outOf:
      let sender = TreeSender(try writer(stream), policy: policy)
      do {
        for path in request.paths { try sender.send(path, on: .machine) }
        let summary = try sender.end()
        try tell(summary, sender.policy, channel)
      } catch {
        if !(error is OtherEndFailed) { sender.giveUp() }
        throw error
      }
    case .sweep:
      guard let path = request.paths.first else { return }
      try Destination.sweep(path, isExact: request.options.contains(.exact), on: .machine)
    }
  } catch let failure as Failure {
    throw failure
  } catch is OtherEndFailed {
    try channel.send(.copied(CopyResult(isComplete: false)))
  } catch {
    throw Failure("copy", nil, "\(error)")
  }
}

private func reader(_ stream: Descriptor) -> TreeReader {
  TreeReader { try StreamPort(stream.raw).read($0) }
}

private func writer(_ stream: Descriptor) throws -> TreeWriter {
  try TreeWriter { try StreamPort(stream.raw).write($0) }
}

private func tell(_ summary: TreeSummary, _ policy: TreePolicy, _ channel: Channel) throws(Failure) {
  try channel.send(
    .copied(CopyResult(entries: summary.entries, bytes: summary.bytes, isComplete: true, notes: policy.notes)))
}

extension Destination.Options {
  init(_ options: CopyRequest.Options) {
    self.init()
    replaces = options.contains(.replace)
    makesFolders = options.contains(.makeFolders)
    isExact = options.contains(.exact)
    isFolder = options.contains(.folder)
  }
}

extension JoinRequest {
  /// The numbers of the capabilities, in the machine's own user namespace, that what is asked for takes.
  var neededCapabilities: Set<UInt32> {
    guard case .copy(let request) = self else { return [] }
    let needed: [String] =
      switch request.direction {
      case .into: ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP"]
      case .outOf: ["CAP_DAC_READ_SEARCH"]
      case .sweep: ["CAP_DAC_OVERRIDE", "CAP_FOWNER"]
      }
    return Set(needed.compactMap { Capabilities.number(of: $0) })
  }
}
