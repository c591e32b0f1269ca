import CLibmount
import Linux

/// The host's mounts, as libmount reads them from `/proc/self/mountinfo`.
struct MountTable {
  struct Mount {
    var filesystem: String
    var root: String
    var target: String
    var options: [Substring]
  }

  let mounts: [Mount]

  init() throws(Failure) {
    guard let table = mnt_new_table_from_file("/proc/self/mountinfo") else {
      throw Failure("read", "/proc/self/mountinfo", "libmount could not parse it")
    }
    defer { mnt_unref_table(table) }
    guard let iterator = mnt_new_iter(Int32(MNT_ITER_FORWARD)) else { throw Failure("read", "the mounts", "no memory") }
    defer { mnt_free_iter(iterator) }
    var result: [Mount] = []
    var entry: OpaquePointer?
    while mnt_table_next_fs(table, iterator, &entry) == 0 {
      func text(_ value: UnsafePointer<CChar>?) -> String { value.map { String(cString: $0) } ?? "" }
      // The file system's own options: `nsdelegate` is one of them.
      let options = text(mnt_fs_get_fs_options(entry)) + "," + text(mnt_fs_get_vfs_options(entry))
      result.append(
        Mount(
          filesystem: text(mnt_fs_get_fstype(entry)), root: text(mnt_fs_get_root(entry)),
          target: text(mnt_fs_get_target(entry)), options: options.split(separator: ",")))
    }
    mounts = result
  }
}
