import Linux
import MachineSpec

/// What machines printed on their consoles.
extension MachineStore {
  /// The file in a machine's folder; the one before has `.1` behind it.
  public static let consoleLog = "console.log"
  /// The greatest length of each, in bytes.
  public static let consoleLogLimit = 1 << 20

  /// What a machine printed last, whether it runs or not.
  ///
  /// - Throws: `Failure` when there is no such machine.
  public func consoleHistory(of name: MachineName) throws(Failure) -> [UInt8] {
    let folder = try open(name)
    var result: [UInt8] = []
    for file in ["\(Self.consoleLog).1", Self.consoleLog] {
      result += try folder.readFile(file, limit: 2 * Self.consoleLogLimit) ?? []
    }
    return result
  }
}
