import MachineSpec
import StageProtocol

/// `LinkJournal=`: the machine's journal in a folder of the host's, where the host's journalctl finds it.
extension Planner {
  private static let folder = "/var/log/journal"

  /// The host's folder that the machine's journal goes to; nil when it stays in the machine.
  func journalFolder() throws(PlanError) -> String? {
    let path = "\(Self.folder)/\(machine.machineID)"
    switch spec.exec.linkJournal {
    case .no: return nil
    case .auto: return host.hasMachinesJournal ? path : nil
    case .tryHost: return host.keepsJournal ? path : nil
    case .host:
      guard host.keepsJournal else {
        throw PlanError(
          "LinkJournal=host: the host keeps no journal on disk", advice: "mkdir \(Self.folder)", isHostsFault: true)
      }
      return path
    case .guest, .tryGuest:
      throw PlanError(
        "LinkJournal=\(spec.exec.linkJournal): the host's journalctl would follow paths that the machine controls",
        advice: "'hengectl journal' shows it without; LinkJournal=host keeps the files on the host's side")
    }
  }

  /// Not with ids mapped: what the machine's root writes there must never belong to the host's root, whose other users
  /// could execute it.
  mutating func bindJournal(_ path: String) {
    operations.append(
      .bind(
        Bind(
          source: path, path: path, recursive: false, mapped: false, optional: false,
          attributes: [.noSetID, .noDevices, .noExecute])))
  }
}
