import Glibc
import Linux
import Systemd

/// What the machine prints on its console: always drained, because a full terminal stops process 1, and kept in a file
/// of bounded size beside the one before.
final class ConsoleLog {
  static let name = "console.log"
  private static let limit = 1 << 20

  private let folder: Descriptor
  private let controller: Descriptor
  private var file: Descriptor
  private var size = 0
  private var source: EventLoop.Source?

  init(_ controller: Descriptor, in folder: Descriptor, on loop: EventLoop) throws {
    self.controller = controller
    self.folder = folder
    file = try Self.open(in: folder)
    size = Int(try file.status().size)
    _ = fcntl(controller.raw, F_SETFL, O_RDWR | O_NONBLOCK)
    // By changes: between two programs nobody has the terminal open, which as a state would be reported for ever, and
    // the next one that opens it must be heard again.
    source = try loop.addIO(controller.raw, [.readable, .edgeTriggered]) { [unowned self] _ in drain() }
  }

  func drain() {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(controller.raw, &buffer, buffer.count)
      guard count > 0 else { return }
      if size + count > Self.limit { rotate() }
      // A full disk loses console text; that must not stop the machine.
      try? file.writeAll(buffer[..<count], subject: Self.name)
      size += count
    }
  }

  private func rotate() {
    renameat(folder.raw, Self.name, folder.raw, "\(Self.name).1")
    guard let next = try? Self.open(in: folder) else { return }
    file = next
    size = 0
  }

  private static func open(in folder: Descriptor) throws(Failure) -> Descriptor {
    try folder.open(name, [.write, .create, .append, .noFollow], lookup: .beneath, mode: 0o600)
  }

  /// The text without what moves, colours or names a terminal (control sequences of ECMA-48).
  private static func plain(_ text: String) -> String {
    var result = ""
    var scalars = text.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      guard scalar == "\u{1b}" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      switch scalars.next() {
      // Parameters, and then one letter or its like.
      case "[": while let next = scalars.next(), !(0x40...0x7e).contains(next.value) {}
      // A string, up to a bell or the backslash of its terminator.
      case "]", "P", "_", "^": while let next = scalars.next(), next != "\u{07}", next != "\\" {}
      default: break
      }
    }
    return result
  }

  /// The last lines, for the message about a machine that came to its end too soon.
  static func tail(in folder: Descriptor, lines: Int) -> [String] {
    guard let bytes = (try? folder.readFile(name, limit: 4 << 20)) ?? nil else { return [] }
    let text = plain(String(decoding: bytes.suffix(4096), as: UTF8.self))
    return text.split { $0 == "\n" || $0 == "\r\n" || $0 == "\r" }.suffix(lines).map { printable($0, limit: 200) }
  }
}
