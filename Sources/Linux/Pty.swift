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
    // The instance may be in the sight of somebody who has mounted something over it.
    do throws(Failure) {
      controller = try devpts.open("ptmx", .readWrite, lookup: .sameMount)
    } catch {
      guard error.errno == .improperLink else { throw error }
      throw Failure("open a pseudo-terminal", nil, "something is mounted over its ptmx")
    }
    terminal = Descriptor(adopting: try check(clinux_pty_peer(controller.raw), "open a pseudo-terminal"))
  }
}

extension Pty {
  /// Makes one that belongs to a user, by the kernel's ids. Only for a process with a single thread.
  ///
  /// The corresponding C functions are those of `init(in:)`, and `setfsuid`.
  public init(in devpts: Descriptor, owner: UInt32) throws(Failure) {
    clinux_set_filesystem_ids(owner, owner)
    defer { clinux_set_filesystem_ids(0, 0) }
    try self.init(in: devpts)
  }

  /// Its number in its instance of devpts: 3 for what is `/dev/pts/3` there. The corresponding request is `TIOCGPTN`.
  public func number() throws(Failure) -> Int {
    Int(try check(clinux_pty_number(controller.raw), "ask for the number of", "a pseudo-terminal"))
  }

  /// The session whose terminal it is, as this process numbers it; nil for none. The corresponding request is
  /// `TIOCGSID`.
  public var session: Int32? {
    let number = clinux_pty_session(controller.raw)
    return number > 0 ? number : nil
  }
}

/// Sets the size of a terminal in characters, and has its programs told. The corresponding request is `TIOCSWINSZ`.
///
/// - Returns: whether it is a terminal.
@discardableResult
public func setTerminalSize(of descriptor: Int32, columns: Int, rows: Int) -> Bool {
  clinux_set_terminal_size(descriptor, Int32(clamping: columns), Int32(clamping: rows)) == 0
}

/// The size of a terminal in characters; nil when the descriptor is none.
public func terminalSize(of descriptor: Int32) -> (columns: Int, rows: Int)? {
  var columns: Int32 = 0
  var rows: Int32 = 0
  guard clinux_terminal_size(descriptor, &columns, &rows) == 0 else { return nil }
  return (Int(columns), Int(rows))
}
