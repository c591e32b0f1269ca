import Glibc
import Linux
import MachineSpec
import MachineStore
import Varlink

/// Binds that come and go while a machine runs.
extension MachineManager {
  /// Shows a file or folder of the host in a running machine, until it stops or `unbind`.
  ///
  /// The mount is taken here, with the rights and in the mount namespace of whoever asks (`open_tree`), and goes to the
  /// machine's supervisor as a descriptor.
  ///
  /// - Parameters:
  ///   - name: the machine.
  ///   - source: the file or folder; links in its path are followed.
  ///   - target: where in the machine; nil is the source's own path.
  ///   - readOnly: whether the machine may write nothing there.
  ///   - mapped: whether files of the host's id N belong to the machine's id N.
  ///   - makeTarget: whether the place in the machine is made where there is none.
  /// - Throws: `Failure` when either side refuses; nothing is mounted then.
  public func bind(
    _ name: MachineName, _ source: String, at target: String?, readOnly: Bool, mapped: Bool, makeTarget: Bool
  ) throws(Failure) {
    let place = try Descriptor.open(source, .path)
    // Where the links led, which is what the machine's path is without another one.
    guard let path = try Descriptor.open("/proc/self/fd", .directory).linkTarget("\(place.raw)") else {
      throw Failure("bind", source, "its path cannot be told")
    }
    let tree: MountTree
    do {
      tree = try MountTree(copying: "", from: place, recursive: true)
    } catch {
      throw Failure("bind", source, error.reason)
    }
    _ = try call(
      name, "Bind",
      [
        "path": .string(target ?? path), "source": .string(path), "readOnly": .bool(readOnly), "mapped": .bool(mapped),
        "mkdir": .bool(makeTarget),
      ], passing: [tree.descriptor], to: "bind")
  }

  /// Takes away what `bind` brought.
  ///
  /// - Parameter lazy: whether also what is in use goes.
  public func unbind(_ name: MachineName, _ target: String, lazy: Bool) throws(Failure) {
    _ = try call(name, "Unbind", ["path": .string(target), "lazy": .bool(lazy)], to: "unbind")
  }
}
