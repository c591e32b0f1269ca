import CLinux
import SystemPackage

/// Both sides of a pseudo-terminal.
public struct Pty: Sendable {
  /// The side that feeds and drains it.
  public let controller: Descriptor
  /// The side that a program has as its terminal.
  public let terminal: Descriptor

  /// Makes one in an instance of devpts. The corresponding C functions are `open` of `ptmx` and `TIOCGPTPEER`.
  ///
  /// - Parameter devpts: the root of the instance.
  public init(in devpts: Descriptor) throws(Failure) {
    controller = try devpts.open("ptmx", .readWrite, lookup: .beneath)
    terminal = Descriptor(adopting: try check(clinux_pty_peer(controller.raw), "open a pseudo-terminal"))
  }
}

/// The size of a terminal in characters; nil when the descriptor is none.
public func terminalSize(of descriptor: Int32) -> (columns: Int, rows: Int)? {
  var columns: Int32 = 0
  var rows: Int32 = 0
  guard clinux_terminal_size(descriptor, &columns, &rows) == 0 else { return nil }
  return (Int(columns), Int(rows))
}
