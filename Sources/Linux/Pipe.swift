import CLinux
import Glibc

/// Both ends of a pipe.
public struct Pipe: Sendable {
  /// Where what was written comes out.
  public let output: Descriptor
  /// Where to write.
  public let input: Descriptor

  /// Makes one. The corresponding C function is `pipe2`, with `O_CLOEXEC`.
  public init() throws(Failure) {
    var ends: [Int32] = [-1, -1]
    try check(clinux_pipe(&ends), "make a pipe")
    output = Descriptor(adopting: ends[0])
    input = Descriptor(adopting: ends[1])
  }
}

extension Descriptor {
  /// Whether this is an end of a pipe without a name.
  public var isAnonymousPipe: Bool { clinux_filesystem(raw) == 0x5049_5045 }
}
