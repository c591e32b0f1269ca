import CLinux
import Glibc

/// Both ends of a pipe.
public struct Pipe: Sendable {
  /// Where what was written comes out.
  public let output: Descriptor
  /// Where to write.
  public let input: Descriptor

  /// Makes one. The corresponding C function is `pipe2`, with `O_CLOEXEC`.
  ///
  /// - Parameter size: how many bytes it is to hold, if the kernel lets us have that many.
  public init(size: Int32) throws(Failure) {
    var ends: [Int32] = [-1, -1]
    try check(clinux_pipe(&ends, size), "make a pipe")
    output = Descriptor(adopting: ends[0])
    input = Descriptor(adopting: ends[1])
  }
}

extension Descriptor {
  /// Whether this is an end of a pipe without a name.
  public var isAnonymousPipe: Bool { clinux_filesystem(raw) == 0x5049_5045 }

  /// Gives a pipe room for so many bytes, if the kernel lets us have that much. The corresponding C function is
  /// `fcntl(F_SETPIPE_SZ)`.
  public func enlargePipe(to size: Int32) {
    _ = fcntl(raw, 1031 /* F_SETPIPE_SZ */, size)
  }

  /// Has reads and writes not wait. The corresponding C function is `fcntl(F_SETFL)`.
  public func setNonBlocking() throws(Failure) {
    try check(clinux_set_nonblocking(raw, true), "change", "a descriptor")
  }
}
