/// What is done to the mounts of a machine that runs.
public enum MountRequest: Sendable, Equatable {
  /// Attaches the tree that comes along.
  ///
  /// - `path`: where in the machine.
  /// - `scratch`: a folder of the host's that a file system of the process's own may cover.
  /// - `readOnly`: whether nothing is written through it.
  /// - `mapped`: whether the machine sees the host's ids as its own.
  /// - `makeTarget`: whether the place is made where there is none.
  case bind(path: String, scratch: String, readOnly: Bool, mapped: Bool, makeTarget: Bool)
  /// Detaches the mount with this number from a path of the machine.
  ///
  /// - `lazy`: whether also what is in use goes, out of sight at once and for good when the last user is done.
  case unbind(path: String, mount: UInt64, lazy: Bool)

  /// The path in the machine.
  public var path: String {
    switch self {
    case .bind(let path, _, _, _, _), .unbind(let path, _, _): path
    }
  }

  /// The request as bytes.
  public var encoded: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .bind(let path, let scratch, let readOnly, let mapped, let makeTarget):
      writer.byte(1)
      writer.text(path)
      writer.text(scratch)
      writer.bool(readOnly)
      writer.bool(mapped)
      writer.bool(makeTarget)
    case .unbind(let path, let mount, let lazy):
      writer.byte(2)
      writer.text(path)
      writer.integer(mount)
      writer.bool(lazy)
    }
    return writer.bytes
  }

  /// Reads a request.
  ///
  /// - Throws: `WireError` unless the bytes are exactly one request.
  public init(decoding bytes: [UInt8]) throws(WireError) {
    var reader = WireReader(bytes)
    switch try reader.byte() {
    case 1:
      self = .bind(
        path: try reader.text(), scratch: try reader.text(), readOnly: try reader.bool(), mapped: try reader.bool(),
        makeTarget: try reader.bool())
    case 2: self = .unbind(path: try reader.text(), mount: try reader.integer(), lazy: try reader.bool())
    default: throw WireError(expected: "a request about mounts")
    }
    guard reader.isAtEnd else { throw WireError(expected: "the end of the request") }
  }
}
