import Linux
import StageProtocol

/// Finding out before anything of the machine's runs that nothing of it could.
extension Setup {
  func checkInit(_ candidates: [String], architecture: UInt16) throws(Failure) {
    for candidate in candidates {
      let program: Descriptor
      do {
        program = try root.open(candidate, [.read, .nonBlocking], lookup: .inRoot)
      } catch {
        switch error.errno {
        case .noSuchFileOrDirectory, .notDirectory: continue
        case .tooManySymbolicLinkLevels: throw Failure("boot", candidate, "its symbolic links lead in a circle")
        default: throw error
        }
      }
      let status = try program.status()
      guard status.kind == .regular else { throw Failure("boot", candidate, "it is not a program") }
      guard status.mode & 0o111 != 0 else {
        throw Failure("boot", candidate, "it is not executable", advice: "chmod +x it in the image")
      }
      return try check(program, candidate, architecture: architecture)
    }
    throw Failure(
      "boot", nil, "the machine's root has no init (looked for \(candidates.joined(separator: ", ")))",
      advice: "use an image with systemd installed")
  }

  private func check(_ program: Descriptor, _ path: String, architecture: UInt16) throws(Failure) {
    let header = try program.readHead(20, subject: path)
    if header.starts(with: [0x23, 0x21]) { return }
    guard header.count == 20, header.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else {
      throw Failure("boot", path, "it is neither an ELF program nor a script")
    }
    let machine = UInt16(header[18]) | UInt16(header[19]) << 8
    if machine != architecture {
      throw Failure(
        "boot", path, "it is made for another processor (ELF machine \(machine), this host is \(architecture))",
        advice: "use an image for this host's architecture", kind: .refused)
    }
  }
}
