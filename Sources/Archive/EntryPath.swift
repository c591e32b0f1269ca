import Images
import Linux

/// A path of an archive's entry that cannot lead out of the root: relative, without `..`.
struct EntryPath: Equatable {
  /// The components; none for the root itself.
  let components: [ArraySlice<UInt8>]

  /// Why a path is not taken.
  enum Problem: Error {
    case absolute, parent, tooDeep, tooLong, empty

    var reason: String {
      switch self {
      case .absolute: "it is an absolute path"
      case .parent: "it has a '..' in it"
      case .tooDeep: "it is too deep"
      case .tooLong: "a name in it is longer than 255 bytes"
      case .empty: "it is empty"
      }
    }
  }

  /// Takes a path apart; `.` and double slashes vanish.
  init(_ bytes: [UInt8], maximumDepth: Int) throws(Problem) {
    if bytes.isEmpty { throw .empty }
    if bytes.first == 47 { throw .absolute }
    var components: [ArraySlice<UInt8>] = []
    for part in bytes.split(separator: 47) {
      if part.elementsEqual([46]) { continue }
      if part.elementsEqual([46, 46]) { throw .parent }
      if part.count > 255 { throw .tooLong }
      components.append(part)
    }
    if components.count > maximumDepth { throw .tooDeep }
    self.components = components
  }

  /// The last component, as the kernel takes it.
  var name: Name { Self.name(components.last ?? []) }

  /// The path of the folder, as the kernel takes it; empty for the root.
  var parent: [CChar] { Self.path(components.dropLast()) }

  /// The whole path, as the kernel takes it; empty for the root.
  var whole: [CChar] { Self.path(components[...]) }

  static func name(_ component: ArraySlice<UInt8>) -> Name { component.map { CChar(bitPattern: $0) } + [0] }

  static func path(_ components: ArraySlice<ArraySlice<UInt8>>) -> [CChar] {
    components.joined(separator: [47]).map { CChar(bitPattern: $0) } + [0]
  }
}
