import Linux
import MachineStore

extension Supervisor {
  /// Gives a tree to other ids, in a program of its own: it works with threads, and this process has none.
  ///
  /// The record says that it was begun before the first file changes, so that a kill at any point is gone on from.
  func shiftOwnership(_ path: String, from: UInt32, to: UInt32, count: UInt32) throws(Failure) {
    guard var record else { return }
    record.shift = .begun
    try store.update(record)
    let folder = store.folder(of: name)
    let errors = try SocketPair(packets: false)
    let request = ProcessRequest(
      .path(try programs.path(of: "henge-import")),
      arguments: ["henge-import", "shift", path, "\(from)", "\(to)", folder, "\(count)"],
      environment: store.places.environment, descriptors: [nil, nil, errors.second])
    let process = try request.start().process
    let exit = try process.reap(wait: true)
    guard exit == .exited(0) else {
      let line = (try? errors.first.receive())??.bytes ?? []
      let text = String(decoding: line, as: UTF8.self).split(separator: "\n").last.map {
        $0.hasPrefix("henge-import: ") ? String($0.dropFirst(14)) : String($0)
      }
      throw Failure("give to the machine's ids", path, text ?? "henge-import ended with \(exit.map { "\($0)" } ?? "")")
    }
    record.shift = to == 0 ? .none : .done
    try store.update(record)
    self.record = record
  }
}
