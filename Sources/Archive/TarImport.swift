import CLinux
import Images
import Linux
import SystemPackage

/// Unpacks a tar archive into an empty directory: the archive's top is the root of a system.
///
/// The archive may be anybody's. libarchive reads it; every name is made here, beneath the directory's descriptor,
/// through no link that the archive made.
public struct TarImport {
  /// What is allowed, and what is done with what is not kept.
  public struct Options: Sendable {
    /// Whether device nodes are made; they are dead in a user namespace, and a machine gets its own `/dev`.
    public var keepsDevices = false
    /// Whether ids outside 0…65535 become 65534 instead of an error.
    public var squashesIDs = false
    /// The most entries that are unpacked.
    public var maximumEntries: UInt64 = 10_000_000
    /// The most bytes of file contents that are unpacked, holes of a file included; nil means what is free on the file
    /// system, less 5 percent, and holes cost nothing.
    public var maximumBytes: UInt64?
    /// The deepest path, in components.
    public var maximumDepth = 1024

    /// The defaults.
    public init() {}
  }

  /// What was unpacked.
  public struct Summary: Sendable, Equatable {
    /// Entries that were unpacked.
    public var entries: UInt64 = 0
    /// Bytes of file contents that were written.
    public var bytes: UInt64 = 0
    /// Bytes of the archive that were read, packed as they are.
    public var packedBytes: UInt64 = 0
    /// Device nodes that were left out.
    public var skippedDevices: UInt64 = 0
    /// Extended attributes that were left out, as they belong to the host (labels, `trusted.`) or have no file to be on.
    public var skippedAttributes: UInt64 = 0
  }

  /// What is allowed.
  public var options: Options
  /// Called after each entry and each block; throwing ends the import.
  public var progress: (Summary) throws -> Void = { _ in }

  /// Makes an importer.
  public init(options: Options = Options()) { self.options = options }

  /// Unpacks an archive.
  ///
  /// - Parameters:
  ///   - archive: the archive, which may be a pipe.
  ///   - path: what the archive is called in an error.
  ///   - target: an empty directory.
  /// - Returns: what was unpacked.
  /// - Throws: `Failure` naming the entry that is not taken; the target is left as it then is.
  public func run(_ archive: FileDescriptor, path: String, into target: FileDescriptor) throws -> Summary {
    let root = try Calls.open(target.rawValue, ".", CLINUX_O_DIRECTORY, path: path)
    try Attributes.remove(root.raw, AttributeIDs.defaultACL, path: path)
    var free: UInt64 = 0
    try Calls.check(clinux_free_bytes(root.raw, &free), "measure the file system for", path)
    let unpacker = TarUnpacker(
      root: root.raw, archive: path, options: options, maximumBytes: options.maximumBytes ?? free / 100 * 95,
      progress: progress)
    let reader = try TarReader(archive.rawValue, path: path)
    while let entry = try reader.next() { try unpacker.unpack(entry, reader) }
    if unpacker.summary.entries == 0 { throw Failure("import", path, "the archive has no entries") }
    let isRoot = ["usr", "bin", "sbin", "etc"].contains { name in
      var stat = clinux_stat()
      return clinux_statx(root.raw, name, &stat) == 0
    }
    if !isRoot {
      throw Failure(
        "import", path, "the archive's root has neither /usr nor /bin: is it packed one folder too deep?",
        advice: "pack it from inside the root (tar -C ROOT -c .)")
    }
    try unpacker.finish()
    return unpacker.summary
  }
}
