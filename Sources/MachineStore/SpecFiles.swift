import Glibc
import Linux
import MachineSpec
import SystemPackage

/// Specs on disk: `NAME.machine` with `NAME.machine.d/*.conf` over it.
extension MachineStore {
  /// Reads a machine's spec.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - overrides: assignments from the command line, which count most.
  /// - Returns: the spec, and warnings to print.
  /// - Throws: `Failure` that holds every error of the spec.
  public func spec(of name: MachineName, overrides: [String] = []) throws(Failure) -> (Spec, [Diagnostic]) {
    try Self.checked(Spec.parse(files: try specFiles(of: name), commandLine: overrides))
  }

  /// The spec and its drop-ins, in the order in which they count.
  func specFiles(of name: MachineName) throws(Failure) -> [Spec.File] {
    var files: [Spec.File] = []
    let base = "\(places.configuration)/\(name).machine"
    if let file = try read(base) { files.append(file) }
    if let folder = try dropIns("\(base).d") {
      for entry in try folder.names().sorted() where entry.hasSuffix(".conf") && !entry.hasPrefix(".") {
        if let file = try read("\(base).d/\(entry)") { files.append(file) }
      }
    }
    return files
  }

  /// Reads a spec from text and assignments, for a machine that does not exist yet.
  public static func checked(
    _ parsed: (spec: Spec, diagnostics: [Diagnostic])
  ) throws(Failure) -> (Spec, [Diagnostic]) {
    let errors = parsed.diagnostics.filter { $0.severity == .error }
    guard errors.isEmpty else { throw Failure(spec: errors) }
    return (parsed.spec, parsed.diagnostics)
  }

  private func dropIns(_ path: String) throws(Failure) -> Descriptor? {
    do {
      return try Descriptor.open(path, .directory)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return nil }
      throw Failure("read the drop-ins in", path, error.reason, kind: .usage)
    }
  }

  func read(_ path: String) throws(Failure) -> Spec.File? {
    do throws(Failure) {
      let file = try Descriptor.open(path, [.read, .nonBlocking])
      // A link to /dev/null is a spec that says nothing; a FIFO that nobody writes to would read like one.
      let kind = try file.status().kind
      guard kind == .regular || kind == .characterDevice else {
        throw Failure("read the spec", path, "it is not a file", kind: .usage)
      }
      let bytes = try file.readAll(limit: 1 << 20, subject: path)
      return Spec.File(name: path, bytes: bytes)
    } catch {
      if error.errno == .noSuchFileOrDirectory { return nil }
      throw error
    }
  }

  /// Whether the operator has written a spec for a machine of this name.
  public func hasSpec(_ name: MachineName) -> Bool { access("\(places.configuration)/\(name).machine", F_OK) == 0 }

  /// Keeps a spec's text unless there is one already; tells whether it did.
  func writeSpec(_ text: String, of name: MachineName) throws(Failure) -> Bool {
    if hasSpec(name) { return false }
    try Descriptor.folder(places.configuration).replaceFile("\(name).machine", with: text.utf8, mode: 0o644)
    return true
  }

  func copySpec(of source: MachineName, to name: MachineName) throws(Failure) -> Bool {
    let folder = try Descriptor.folder(places.configuration)
    guard !hasSpec(name), let bytes = try folder.readFile("\(source).machine") else { return false }
    try folder.replaceFile("\(name).machine", with: bytes, mode: 0o644)
    return true
  }

  func removeSpec(of name: MachineName) {
    unlink("\(places.configuration)/\(name).machine")
    removeLimits(of: name)
  }
}

extension Failure {
  /// All errors of a spec, as the lines that an operator goes through.
  init(spec errors: [Diagnostic]) {
    let lines = errors.map(\.description).joined(separator: "; ")
    self.init("use the spec", nil, lines, kind: .usage)
  }
}
