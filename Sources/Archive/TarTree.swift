import CLinux
import Images
import Linux

/// The tree that an archive becomes: makes parents and names beneath its root, through no link whatever.
final class TarTree {
  let root: Int32
  private var cachedPath: [CChar] = [0]
  private var cached: Int32

  init(root: Int32) {
    self.root = root
    cached = root
  }

  deinit { forget() }

  /// The folder of an entry, made when it is not there; valid until the next call.
  ///
  /// - Parameters:
  ///   - path: the entry's path.
  ///   - make: whether folders may be made.
  ///   - fail: makes the error for a reason.
  func parent(_ path: EntryPath, make: Bool, fail: (String) -> Failure) throws(Failure) -> Int32 {
    let wanted = path.parent
    if wanted.count == 1 { return root }
    if wanted == cachedPath { return cached }
    var opened = Beneath.tryOpen(root, wanted, CLINUX_O_PATH | CLINUX_O_DIRECTORY)
    if opened == -2 && make { opened = try makeFolders(path.components.dropLast(), fail) }
    if opened < 0 { throw explain(opened, fail) }
    forget()
    cached = opened
    cachedPath = wanted
    return opened
  }

  /// Drops what is kept of the last folder, when a folder is removed.
  func forget() {
    if cached != root { clinux_close(cached) }
    cached = root
    cachedPath = [0]
  }

  /// Removes what an earlier entry put at a name; a folder only when it is empty.
  func clear(_ parent: Int32, _ name: Name, fail: (String) -> Failure) throws(Failure) {
    var result = clinux_unlinkat(parent, name, 0)
    if result == -21 {
      result = clinux_unlinkat(parent, name, 1)
      if result == -39 { throw fail("an earlier entry made a folder of it that is not empty") }
    }
    if result < 0 && result != -2 { throw fail(reason(result)) }
  }

  /// A new name, in place of what an earlier entry may have put there.
  func create(
    _ parent: Int32, _ name: Name, fail: (String) -> Failure, _ call: () -> Int32
  ) throws(Failure) -> Int32 {
    var result = call()
    if result == -17 {
      try clear(parent, name, fail: fail)
      result = call()
    }
    if result < 0 { throw explain(result, fail) }
    return result
  }

  private func makeFolders(
    _ components: ArraySlice<ArraySlice<UInt8>>, _ fail: (String) -> Failure
  ) throws(Failure) -> Int32 {
    var at = root
    for component in components {
      let name = EntryPath.name(component)
      var opened = clinux_openat(at, name, CLINUX_O_PATH | CLINUX_O_DIRECTORY, 0)
      if opened == -2 {
        let made = clinux_mkdirat(at, name, 0o755)
        opened = made < 0 ? made : clinux_openat(at, name, CLINUX_O_PATH | CLINUX_O_DIRECTORY, 0)
        // mkdir is subject to the umask; the caller's is not the image's affair.
        if opened >= 0 { _ = clinux_chmod_descriptor(opened, 0o755) }
      }
      if at != root { clinux_close(at) }
      if opened < 0 { throw explain(opened, fail) }
      at = opened
    }
    return at
  }

  private func explain(_ result: Int32, _ fail: (String) -> Failure) -> Failure {
    switch result {
    case -40: fail("a folder on its path is a symbolic link that an earlier entry made")
    case -20: fail("a folder on its path is no folder in an earlier entry, or a symbolic link")
    case -2: fail("a folder on its path is missing")
    default: fail(reason(result))
    }
  }

  private func reason(_ result: Int32) -> String { Calls.failure(-result, "", "").reason }
}
