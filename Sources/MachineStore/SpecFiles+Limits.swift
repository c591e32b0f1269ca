import Glibc
import Linux
import MachineSpec

/// The drop-in that `set-limit --persist` keeps.
extension MachineStore {
  /// Keeps limits for the machine's next start, over what its spec says.
  ///
  /// - Parameters:
  ///   - assignments: as `LimitsDropIn.assignments` returns them.
  ///   - name: the machine.
  /// - Returns: warnings to print, among them that a later drop-in says otherwise.
  /// - Throws: `Failure` when the spec would have errors, or nothing can be written; nothing has changed then.
  public func keepLimits(_ assignments: [String], of name: MachineName) throws(Failure) -> [String] {
    let base = "\(places.configuration)/\(name).machine"
    let path = "\(base).d/\(LimitsDropIn.name)"
    let old = try read(path)
    let new = Spec.File(name: path, bytes: Array(LimitsDropIn.text(old, adding: assignments).utf8))
    var files = try specFiles(of: name).filter { $0.name != path } + [new]
    // In the order in which they are read: the spec, then its drop-ins by their names.
    files.sort { ($0.name == base ? "" : $0.name) < ($1.name == base ? "" : $1.name) }
    let (spec, diagnostics) = try Self.checked(Spec.parse(files: files))
    let wanted = Spec.parse(files: files, commandLine: assignments).spec
    let folder = try Descriptor.folder(places.configuration).makeDirectory("\(name).machine.d", mode: 0o755)
    try folder.replaceFile(LimitsDropIn.name, with: new.bytes, mode: 0o644)
    guard spec.resources != wanted.resources else { return diagnostics.map(\.description) }
    return diagnostics.map(\.description) + ["a drop-in after \(path) says otherwise, and counts at the next start"]
  }

  /// Goes with the machine; what the operator has written beside it stays.
  func removeLimits(of name: MachineName) {
    let folder = "\(places.configuration)/\(name).machine.d"
    if unlink("\(folder)/\(LimitsDropIn.name)") == 0 { rmdir(folder) }
  }

  /// A clone has the limits of its model.
  func copyLimits(of source: MachineName, to name: MachineName) throws(Failure) {
    guard let file = try read("\(places.configuration)/\(source).machine.d/\(LimitsDropIn.name)") else { return }
    let folder = try Descriptor.folder(places.configuration).makeDirectory("\(name).machine.d", mode: 0o755)
    try folder.replaceFile(LimitsDropIn.name, with: file.bytes, mode: 0o644)
  }
}
