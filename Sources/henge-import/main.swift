import Archive
import CLinux
import Glibc
import Images
import Linux
import SystemPackage
import TreeStream

// A program of its own, so that libarchive and its libraries stay out of `hengectl`'s start, and that what parses
// foreign bytes has no more privileges than it takes to write an image.

func open(_ path: String, directory: Bool, _ operation: String) throws(Failure) -> FileDescriptor {
  do throws(Errno) {
    return FileDescriptor(
      rawValue: try FileDescriptor.openForImport(path, directory ? [.directory, .closeOnExec] : [.closeOnExec]))
  } catch {
    throw Failure(operation, path, errno: error)
  }
}

extension FileDescriptor {
  /// The operator's own path: links in it are followed.
  static func openForImport(_ path: String, _ options: OpenOptions) throws(Errno) -> Int32 {
    do {
      return try FileDescriptor.open(FilePath(path), .readOnly, options: options).rawValue
    } catch let error as Errno {
      throw error
    } catch {
      throw .ioError
    }
  }
}

func stopIfAsked() throws(Failure) {
  if clinux_stop_signal() != 0 { throw Failure("import", nil, "interrupted, nothing of the image is left") }
}

func report(_ count: UInt64, _ what: String) {
  if count > 0 { note("left out \(count) \(what)") }
}

func note(_ line: String) {
  let bytes = Array("henge-import: \(line)\n".utf8)
  _ = clinux_write(2, bytes, bytes.count)
}

func openStore(_ path: String) throws -> ImageStore {
  var descriptor: Int32 = -2
  do throws(Errno) {
    descriptor = try FileDescriptor.openForImport(path, [.directory, .closeOnExec])
  } catch {
    guard error == .noSuchFileOrDirectory else { throw Failure("open the state folder", path, errno: error) }
    var done = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      done += "\(part)/"
      if mkdir(done, 0o700) != 0 && errno != EEXIST {
        throw Failure("make the folder", done, errno: Errno(rawValue: errno))
      }
    }
    descriptor = try open(path, directory: true, "open the state folder").rawValue
  }
  return try ImageStore(state: FileDescriptor(rawValue: descriptor), path: path)
}

func run(_ arguments: Arguments) throws {
  switch arguments.verb {
  case .tar(let file, let name):
    let archive = file == "-" ? FileDescriptor.standardInput : try open(file, directory: false, "open the archive")
    var stat = clinux_stat()
    clinux_statx(archive.rawValue, [0], &stat)
    if stat.isDirectory { throw Failure("import", file, "it is a directory", advice: "use import-fs") }
    if stat.isRegular && stat.size == 0 { throw Failure("import", file, "the archive is empty") }
    try Confinement.enter(needsTrusted: false)
    let store = try openStore(arguments.state)
    let line = ProgressLine(name: name.description, total: stat.isRegular ? stat.size : nil)
    defer { line.end() }
    let result = try store.importTar(archive, source: file, as: name, options: arguments.options) {
      try stopIfAsked()
      line.update(entries: $0.entries, bytes: $0.bytes, read: $0.packedBytes)
    }
    line.end()
    report(result.summary.skippedDevices, "device nodes, which are dead in a machine")
    report(result.summary.skippedAttributes, "extended attributes, which belong to a host")
  case .directory(let path, let name):
    let directory = try open(path, directory: true, "open the directory")
    try Confinement.enter(needsTrusted: true)
    let store = try openStore(arguments.state)
    let line = ProgressLine(name: name.description, total: nil)
    defer { line.end() }
    let result = try store.importDirectory(
      directory, source: path, as: name, devices: arguments.options.keepsDevices ? .keep : .skip,
      foreign: arguments.options.squashesIDs ? .squash : .fail
    ) {
      try stopIfAsked()
      line.update(entries: $0.entries, bytes: $0.bytes, read: 0)
    }
    line.end()
    report(result.summary.skippedDevices, "device nodes, which are dead in a machine")
    report(result.summary.skippedSockets, "sockets")
    report(result.summary.skippedMounts, "mounts")
  case .shift(let path, let shift, let state):
    let tree = try open(path, directory: true, "open the directory")
    let folder = try open(state, directory: true, "open the folder")
    try Confinement.enter(needsTrusted: false)
    _ = try OwnershipShift.run(tree, path: path, shift: shift, state: folder)
  }
}

// A write to a pipe that nobody reads is an error to be reported, not a death that leaves the partial image.
signal(SIGPIPE, SIG_IGN)
umask(0o077)
if CommandLine.arguments.dropFirst().first == "--help" {
  print(Arguments.usage)
  exit(0)
}
do {
  if let copy = try CopyArguments(CommandLine.arguments) {
    try CopyModes.run(copy)
    exit(0)
  }
  let arguments = try Arguments(CommandLine.arguments)
  if case .shift = arguments.verb {} else { clinux_stop_on_signals() }
  try run(arguments)
} catch let failure as Failure {
  note(failure.description)
  exit(failure.kind.rawValue)
} catch is OtherEndFailed {
  exit(CopyModes.otherEndFailed)
} catch {
  note(printable("\(error)"))
  exit(1)
}
