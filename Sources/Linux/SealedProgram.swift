import CLinux
import Glibc
import SystemPackage

extension Descriptor {
  /// Copies a program into a sealed anonymous file, so that whoever it runs beside finds no path to the original and
  /// cannot write to what runs.
  ///
  /// - Parameter path: the program on the host.
  /// - Throws: `Failure` from `memfd_create`, `sendfile` or the seals.
  public static func sealedProgram(copying path: String) throws(Failure) -> Descriptor {
    let copy = try emptyProgram()
    try copy.fillProgram(copying: path)
    return copy
  }

  /// An anonymous file that a program can be copied into and run from.
  public static func emptyProgram() throws(Failure) -> Descriptor {
    Descriptor(adopting: try check(clinux_memfd_create("henge-stage", true), "make an anonymous file"))
  }

  /// Copies a program into this empty anonymous file, and seals it.
  public func fillProgram(copying path: String) throws(Failure) {
    let source = try Self.open(path)
    var left = Int(try source.status().size)
    while left > 0 {
      let count = try check(sendfile(raw, source.raw, nil, left), "copy", path)
      if count == 0 { throw Failure("copy", path, "it ended early") }
      left -= count
    }
    try check(clinux_memfd_seal(raw), "seal", path)
  }

  /// Whether this is an anonymous file that nobody can change any more, with something in it.
  public var isSealed: Bool { clinux_memfd_is_sealed(raw) && (try? status().size) ?? 0 > 0 }

  /// A sealed anonymous file with these bytes, to be read from its start.
  public static func sealedBytes(_ bytes: [UInt8], name: String) throws(Failure) -> Descriptor {
    let file = Descriptor(adopting: try check(clinux_memfd_create(name, false), "make an anonymous file"))
    try file.writeAll(bytes, subject: name)
    try check(lseek(file.raw, 0, SEEK_SET), "rewind", name)
    try check(clinux_memfd_seal(file.raw), "seal", name)
    return file
  }
}
