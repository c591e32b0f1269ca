import CLinux
import Linux

/// The directories from the top of a tree down to where a walk is: a tree of any depth, few descriptors.
///
/// Only the lowest few stay open. A closed one is opened again by `..` of its child, and taken only when it is the very
/// directory that was left (device and inode); when it is not, because somebody moved the child, the names are walked
/// again from the top, and that must end in it too.
package struct DescriptorStack: ~Copyable {
  private struct Level {
    var descriptor: Int32
    var identity: FileIdentity
    var name: Name
  }

  private static let openLevels = 48

  private let top: Int32
  private let topPath: String
  private var levels: [Level] = []
  private var firstOpen = 0

  /// Starts at the top of a tree.
  ///
  /// - Parameters:
  ///   - top: the directory; it stays the caller's.
  ///   - path: names the top in errors.
  package init(top: Int32, path: String) {
    self.top = top
    topPath = path
  }

  deinit {
    for level in levels where level.descriptor >= 0 { clinux_close(level.descriptor) }
  }

  /// How many directories below the top the walk is.
  package var depth: Int { levels.count }

  /// The top of the tree.
  package var topDescriptor: Int32 { top }

  /// The directory where the walk is.
  package var current: Int32 { levels.last?.descriptor ?? top }

  /// The directory that is so many below the top, nil when it is not held open.
  package func descriptor(atDepth depth: Int) -> Int32? {
    if depth == 0 { return top }
    guard levels.indices.contains(depth - 1), levels[depth - 1].descriptor >= 0 else { return nil }
    return levels[depth - 1].descriptor
  }

  /// The path of the current directory, for an error.
  package var path: String { path(atDepth: levels.count) }

  /// The path of the directory that is so many below the top, for an error.
  package func path(atDepth depth: Int) -> String {
    var result = topPath
    for level in levels.prefix(depth) { result += "/" + level.name.withUnsafeBufferPointer(Self.text) }
    return result
  }

  /// The path of a name in the current directory, for an error.
  package func path(of name: UnsafePointer<CChar>) -> String { path + "/" + String(name: name) }

  private static func text(_ name: UnsafeBufferPointer<CChar>) -> String {
    String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// The bytes of the path from the top to a name in the current directory.
  package func relativePath(of name: UnsafePointer<CChar>) -> [CChar] {
    var result: [CChar] = []
    for level in levels {
      result += level.name.dropLast()
      result.append(47)
    }
    result += DirectoryReader.copy(name)
    return result
  }

  /// Goes down into a directory.
  ///
  /// - Parameters:
  ///   - descriptor: the directory; the stack closes it.
  ///   - identity: its device and inode.
  ///   - name: its name in the current one.
  package mutating func push(_ descriptor: consuming OwnedDescriptor, identity: FileIdentity, name: Name) {
    levels.append(Level(descriptor: descriptor.release(), identity: identity, name: name))
    if levels.count - firstOpen > Self.openLevels {
      clinux_close(levels[firstOpen].descriptor)
      levels[firstOpen].descriptor = -1
      firstOpen += 1
    }
  }

  /// Goes back up, and gives the name of what was left.
  @discardableResult
  package mutating func pop() throws -> Name {
    guard let left = levels.popLast() else { return Calls.itself }
    defer { clinux_close(left.descriptor) }
    if let above = levels.indices.last, levels[above].descriptor < 0 {
      levels[above].descriptor = try reopen(above, below: left.descriptor)
      firstOpen = above
    }
    firstOpen = min(firstOpen, levels.count)
    return left.name
  }

  private func reopen(_ index: Int, below child: Int32) throws -> Int32 {
    let flags = CLINUX_O_DIRECTORY
    let parent = clinux_openat(child, "..", flags, 0)
    if parent >= 0 {
      if try isLevel(index, parent) { return parent }
      clinux_close(parent)
    }
    var names: [CChar] = []
    for level in levels[...index] { names += level.name.dropLast() + [47] }
    names.append(0)
    let found = try Beneath.open(top, names, flags, path: path)
    if try isLevel(index, found.raw) { return found.release() }
    throw Failure("walk", path, "it was moved away meanwhile", advice: "try again when nobody changes the tree")
  }

  private func isLevel(_ index: Int, _ descriptor: Int32) throws -> Bool {
    try Calls.stat(descriptor, Calls.itself, path: path).identity == levels[index].identity
  }
}
