import Glibc
import Linux

/// The programs that belong together: they stand beside each other, or in `libexec` of the same prefix.
public struct Programs: Sendable {
  /// The folder of the program that runs.
  public let folder: String

  /// Finds the folder of the program that runs.
  public init() throws(Failure) {
    guard let resolved = realpath("/proc/self/exe", nil) else {
      throw Failure("find", "the program that runs", "/proc is not mounted")
    }
    defer { free(resolved) }
    folder = String(
      String(cString: resolved).split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(
        separator: "/"))
  }

  /// The path of a sibling.
  ///
  /// - Throws: `Failure` when it is neither beside this program nor in its prefix's `libexec/henge`.
  public func path(of name: String) throws(Failure) -> String {
    let places = ["\(folder)/\(name)", "\(folder)/../libexec/henge/\(name)"]
    for place in places where access(place, X_OK) == 0 { return place }
    throw Failure("find", name, "it is not in \(places.joined(separator: " nor in "))", advice: "install henge whole")
  }
}
