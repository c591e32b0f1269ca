#define _GNU_SOURCE
#include "clinux_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const uint64_t clinux_mount_rdonly = MOUNT_ATTR_RDONLY;
const uint64_t clinux_mount_nosuid = MOUNT_ATTR_NOSUID;
const uint64_t clinux_mount_nodev = MOUNT_ATTR_NODEV;
const uint64_t clinux_mount_noexec = MOUNT_ATTR_NOEXEC;
const uint64_t clinux_mount_nosymfollow = MOUNT_ATTR_NOSYMFOLLOW;
const unsigned long clinux_ms_private = MS_PRIVATE;
const unsigned long clinux_ms_slave = MS_SLAVE;
const unsigned long clinux_ms_shared = MS_SHARED;

int clinux_open_tree(int directory, const char *path, bool recursive, bool follow) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (!follow) flags |= AT_SYMLINK_NOFOLLOW;
  if (path[0] == '\0') flags |= AT_EMPTY_PATH;
  return open_tree(directory, path, flags);
}

int clinux_mount_setattr(int mount, bool recursive, uint64_t set, uint64_t clear, int user_namespace) {
  struct mount_attr attributes = {.attr_set = set, .attr_clr = clear};
  if (user_namespace >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = (uint64_t)user_namespace;
  }
  return mount_setattr(mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes, sizeof attributes);
}

int clinux_mount_propagation(int directory, const char *path, bool recursive, unsigned long propagation) {
  struct mount_attr attributes = {.propagation = propagation};
  unsigned flags = (recursive ? AT_RECURSIVE : 0) | (path[0] == '\0' ? AT_EMPTY_PATH : 0);
  return mount_setattr(directory, path, flags, &attributes, sizeof attributes);
}

int clinux_move_mount(int mount, int target) {
  return move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* Linux 6.8; older headers do not have it. */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

int clinux_mount_id(int descriptor, uint64_t *id) {
  struct statx status;
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, &status) < 0) return -1;
  if (!(status.stx_mask & STATX_MNT_ID_UNIQUE)) {
    errno = ENOSYS;
    return -1;
  }
  *id = status.stx_mnt_id;
  return 0;
}

int clinux_unmount(const char *path, bool lazy) { return umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)); }

int clinux_fsopen(const char *filesystem) { return fsopen(filesystem, FSOPEN_CLOEXEC); }

int clinux_fsconfig_string(int context, const char *key, const char *value) {
  return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0);
}

int clinux_fsconfig_flag(int context, const char *key) { return fsconfig(context, FSCONFIG_SET_FLAG, key, NULL, 0); }

int clinux_fsconfig_descriptor(int context, const char *key, int descriptor) {
  return fsconfig(context, FSCONFIG_SET_FD, key, NULL, descriptor);
}

int clinux_fsconfig_create(int context) { return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0); }

int clinux_fsmount(int context, uint64_t attributes) { return fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes); }

int clinux_fscontext_message(int context, char *text, int size) {
  int saved = errno;
  ssize_t length = read(context, text, (size_t)(size - 1));
  errno = saved;
  if (length <= 0) length = 0;
  text[length] = '\0';
  return (int)length;
}

bool clinux_pivot_is_refused(void) {
  /* There is no place of that name: a kernel that is asked says so. */
  return syscall(SYS_pivot_root, "", "") < 0 && (errno == EPERM || errno == ENOSYS);
}

int clinux_pivot_here(void) {
  /* Both arguments are ".": the old root ends up stacked on the new one, where "." then finds it to unmount. */
  int old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (old_root < 0) return -1;
  int result = (int)syscall(SYS_pivot_root, ".", ".");
  if (result == 0) result = fchdir(old_root);
  if (result == 0) result = umount2(".", MNT_DETACH);
  if (result == 0) result = chdir("/");
  int saved = errno;
  close(old_root);
  errno = saved;
  return result;
}
