import Glibc
import Linux
import MachineStore

/// What the machine prints on its console, kept in a file of bounded size beside the one before. It lies with the
/// machine and not with its run, so that the last words of a machine can be read when it has stopped.
final class ConsoleLog {
  static let name = MachineStore.consoleLog
  private static let limit = MachineStore.consoleLogLimit

  private let folder: Descriptor
  private var file: Descriptor
  private var size: Int
  /// Where in the file the present run of the machine begins.
  private var start: Int

  init(in folder: Descriptor) throws(Failure) {
    self.folder = folder
    file = try Self.open(in: folder)
    size = Int(try file.status().size)
    start = size
  }

  func beginRun() { start = size }

  func append(_ bytes: ArraySlice<UInt8>) {
    if size + bytes.count > Self.limit { rotate() }
    // A full disk loses console text; that must not stop the machine.
    try? file.writeAll(bytes, subject: Self.name)
    size += bytes.count
  }

  /// The log as it is now: the file before, if there is one, and so many bytes of the present one.
  func reading() throws(Failure) -> (file: Descriptor, length: UInt64, older: Descriptor?) {
    let present = try folder.open(Self.name, [.read, .noFollow], lookup: .beneath)
    let older = try? folder.open("\(Self.name).1", [.read, .noFollow], lookup: .beneath)
    return (present, try present.status().size, older)
  }

  private func rotate() {
    renameat(folder.raw, Self.name, folder.raw, "\(Self.name).1")
    guard let next = try? Self.open(in: folder) else { return }
    file = next
    size = 0
    start = 0
  }

  private static func open(in folder: Descriptor) throws(Failure) -> Descriptor {
    try folder.open(name, [.write, .create, .append, .noFollow], lookup: .beneath, mode: 0o600)
  }

  /// The last lines of this run, for the message about a machine that came to its end too soon.
  func tail(lines: Int) -> [String] {
    guard let bytes = (try? folder.readFile(Self.name, limit: 4 << 20)) ?? nil else { return [] }
    let text = withoutControlSequences(String(decoding: bytes.dropFirst(start).suffix(4096), as: UTF8.self))
    return text.split { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }.suffix(lines).map { printable($0, limit: 200) }
  }
}
