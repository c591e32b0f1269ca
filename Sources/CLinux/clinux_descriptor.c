#define _GNU_SOURCE
#include "clinux_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

const int clinux_o_path = O_PATH;
const int clinux_o_cloexec = O_CLOEXEC;
const int clinux_o_nofollow = O_NOFOLLOW;
const int clinux_o_directory = O_DIRECTORY;
const int clinux_o_tmpfile = O_TMPFILE;
const int clinux_at_empty_path = AT_EMPTY_PATH;
const int clinux_at_symlink_nofollow = AT_SYMLINK_NOFOLLOW;

const uint64_t clinux_resolve_beneath = RESOLVE_BENEATH;
const uint64_t clinux_resolve_in_root = RESOLVE_IN_ROOT;
const uint64_t clinux_resolve_no_magiclinks = RESOLVE_NO_MAGICLINKS;
const uint64_t clinux_resolve_no_symlinks = RESOLVE_NO_SYMLINKS;
const uint64_t clinux_resolve_no_xdev = RESOLVE_NO_XDEV;
const uint64_t clinux_cgroup2_magic = CGROUP2_SUPER_MAGIC;

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int clinux_open_beneath(int directory, const char *path, int flags, unsigned mode, uint64_t resolve) {
  struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .mode = mode, .resolve = resolve};
  /* What is opened may be somebody's terminal: it must not become ours, with whose keys we could be ended. */
  if (!(flags & O_PATH)) how.flags |= O_NOCTTY;
  long result;
  /* EAGAIN: a rename raced with a lookup that must stay beneath; the kernel asks to try again. */
  do {
    result = syscall(SYS_openat2, directory, path, &how, sizeof how);
  } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  return (int)result;
}

int clinux_close_range(unsigned first, bool only_mark_cloexec) {
  return (int)syscall(SYS_close_range, first, ~0U, only_mark_cloexec ? 4U /* CLOSE_RANGE_CLOEXEC */ : 0U);
}

int clinux_memfd_create(const char *name, bool executable) {
  int descriptor =
      memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));
  /* Kernels before 6.3 know neither flag. */
  if (descriptor < 0 && errno == EINVAL) descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return descriptor;
}

int clinux_memfd_seal(int descriptor) {
  return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

int clinux_rename_noreplace(int from_directory, const char *from, int to_directory, const char *to) {
  return renameat2(from_directory, from, to_directory, to, RENAME_NOREPLACE);
}

int clinux_flock(int descriptor, bool exclusive, bool wait) {
  int result;
  do {
    result = flock(descriptor, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
  } while (result < 0 && errno == EINTR);
  return result;
}

int clinux_status(int directory, const char *path, struct clinux_status *status) {
  struct stat native;
  if (fstatat(directory, path, &native, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0) return -1;
  *status = (struct clinux_status){
      .mode = native.st_mode,
      .uid = native.st_uid,
      .gid = native.st_gid,
      .rdev_major = major(native.st_rdev),
      .rdev_minor = minor(native.st_rdev),
      .inode = native.st_ino,
      .size = (uint64_t)native.st_size,
      .device = native.st_dev,
  };
  return 0;
}

uint64_t clinux_filesystem(int descriptor) {
  struct statfs status;
  return fstatfs(descriptor, &status) < 0 ? 0 : (uint64_t)status.f_type;
}

void clinux_set_filesystem_ids(unsigned uid, unsigned gid) {
  /* Neither call reports failure; the file made next shows it. The group first: it needs the user's rights. */
  setfsgid(gid);
  setfsuid(uid);
}

bool clinux_memfd_is_sealed(int descriptor) {
  const int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  int seals = fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && (seals & all) == all;
}

int clinux_pipe(int ends[2], int size) {
  if (pipe2(ends, O_CLOEXEC) < 0) return -1;
  /* Beyond the user's share of memory for pipes the kernel says no, and a smaller one will do. */
  fcntl(ends[0], F_SETPIPE_SZ, size);
  return 0;
}

int clinux_readable_bytes(int descriptor) {
  int count = 0;
  return ioctl(descriptor, FIONREAD, &count) < 0 ? -1 : count;
}

ssize_t clinux_splice(int from, int to, size_t size, bool wait) {
  ssize_t result;
  do result = splice(from, NULL, to, NULL, size, SPLICE_F_MOVE | (wait ? 0 : SPLICE_F_NONBLOCK));
  while (result < 0 && errno == EINTR && !wait);
  return result;
}
