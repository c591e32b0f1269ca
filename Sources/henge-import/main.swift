import Images
import Linux
import SystemPackage

let a = CommandLine.arguments
do {
  if a[1] == "shift" {
    let tree = try FileDescriptor.open(FilePath(a[2]), .readOnly)
    let state = try FileDescriptor.open(FilePath(a[5]), .readOnly)
    print(try OwnershipShift.run(tree, path: a[2], shift: IDShift(from: UInt32(a[3])!, to: UInt32(a[4])!), state: state))
  } else if a[1] == "rm" {
    let tree = try FileDescriptor.open(FilePath(a[2]), .readOnly)
    try TreeRemove.remove(a[3], in: tree, path: a[3])
  } else if a[1] == "cp" {
    var c = TreeCopy()
    c.devices = .keep
    print(try c.copy(from: FileDescriptor.open(FilePath(a[2]), .readOnly), to: FileDescriptor.open(FilePath(a[3]), .readOnly), sourcePath: a[2]))
  }
} catch { print(error) }
