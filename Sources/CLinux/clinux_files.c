#define _GNU_SOURCE
#include "clinux_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* Numbers that are the same on every architecture since 5.x, for C libraries that are older than the kernel. */
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#ifndef __NR_listxattrat
#define __NR_listxattrat 465
#endif
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x00001000U
#endif
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

const uint64_t CLINUX_STAT_IMMUTABLE = STATX_ATTR_IMMUTABLE;
const uint64_t CLINUX_STAT_APPEND = STATX_ATTR_APPEND;

const uint64_t CLINUX_RESOLVE_BENEATH = RESOLVE_BENEATH;
const uint64_t CLINUX_RESOLVE_IN_ROOT = RESOLVE_IN_ROOT;
const uint64_t CLINUX_RESOLVE_NO_SYMLINKS = RESOLVE_NO_SYMLINKS;
const uint64_t CLINUX_RESOLVE_NO_MAGICLINKS = RESOLVE_NO_MAGICLINKS;
const uint64_t CLINUX_RESOLVE_NO_XDEV = RESOLVE_NO_XDEV;

const int CLINUX_O_PATH = O_PATH;
const int CLINUX_O_NOFOLLOW = O_NOFOLLOW;
const int CLINUX_O_CLOEXEC = O_CLOEXEC;
const int CLINUX_O_DIRECTORY = O_DIRECTORY;
const int CLINUX_O_NONBLOCK = O_NONBLOCK;

#define AGAIN(result, call) \
  do { \
    (result) = (call); \
  } while ((result) == -1 && errno == EINTR); \
  if ((result) == -1) return -errno

struct fd_path {
  char text[32];
};

static struct fd_path fd_path(int descriptor) {
  struct fd_path path;
  snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", descriptor);
  return path;
}

int clinux_openat(int directory, const char *name, int flags, unsigned mode) {
  int result;
  AGAIN(result, openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode));
  return result;
}

int clinux_openat2(int directory, const char *path, int flags, unsigned mode, uint64_t resolve) {
  struct open_how how = {
      /* Stricter than openat: what O_PATH does not know is an error beside it. */
      .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | ((flags & O_PATH) ? 0 : O_NOCTTY)),
      .mode = (flags & (O_CREAT | __O_TMPFILE)) ? mode : 0,
      .resolve = resolve,
  };
  /* A rename anywhere may make a RESOLVE_BENEATH walk unsure of itself: the kernel says EAGAIN and means it. */
  for (int tries = 0; tries < 1000; tries++) {
    long result = syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (result >= 0) return (int)result;
    if (errno != EINTR && errno != EAGAIN) return -errno;
  }
  return -EAGAIN;
}

int clinux_close(int descriptor) { return close(descriptor) ? -errno : 0; }

int clinux_dup(int descriptor) {
  int result;
  AGAIN(result, fcntl(descriptor, F_DUPFD_CLOEXEC, 3));
  return result;
}

int clinux_statx(int directory, const char *name, struct clinux_stat *result) {
  struct statx stat;
  int rc;
  AGAIN(rc, statx(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name[0] ? 0 : AT_EMPTY_PATH),
                  STATX_BASIC_STATS | STATX_MNT_ID, &stat));
  *result = (struct clinux_stat){
      .inode = stat.stx_ino,
      .device = makedev(stat.stx_dev_major, stat.stx_dev_minor),
      .mount = (stat.stx_mask & STATX_MNT_ID) ? stat.stx_mnt_id : 0,
      .size = stat.stx_size,
      .blocks = stat.stx_blocks,
      .attributes = stat.stx_attributes,
      .modified_seconds = stat.stx_mtime.tv_sec,
      .modified_nanoseconds = stat.stx_mtime.tv_nsec,
      .mode = stat.stx_mode,
      .owner = stat.stx_uid,
      .group = stat.stx_gid,
      .links = stat.stx_nlink,
      .node_major = stat.stx_rdev_major,
      .node_minor = stat.stx_rdev_minor,
  };
  return 0;
}

int clinux_fchownat(int directory, const char *name, unsigned owner, unsigned group) {
  int rc;
  AGAIN(rc, fchownat(directory, name, owner, group, AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH)));
  return 0;
}

int clinux_utimensat(int directory, const char *name, int64_t seconds, uint32_t nanoseconds) {
  struct timespec times[2] = {
      {.tv_nsec = UTIME_OMIT},
      {.tv_sec = (time_t)seconds, .tv_nsec = (long)nanoseconds},
  };
  long rc;
  AGAIN(rc, syscall(SYS_utimensat, directory, name, times, AT_SYMLINK_NOFOLLOW | (name[0] ? 0 : AT_EMPTY_PATH)));
  return 0;
}

long clinux_readlinkat(int directory, const char *name, char *buffer, size_t size) {
  long result;
  AGAIN(result, readlinkat(directory, name, buffer, size));
  return result;
}

int clinux_chmod_descriptor(int descriptor, unsigned mode) {
  if (syscall(__NR_fchmodat2, descriptor, "", mode, AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOSYS) return -errno;
  struct fd_path path = fd_path(descriptor);
  return chmod(path.text, mode) ? -errno : 0;
}

int clinux_reopen(int descriptor, int flags) {
  struct fd_path path = fd_path(descriptor);
  int result;
  AGAIN(result, open(path.text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  return result;
}

int clinux_link_descriptor(int descriptor, int directory, const char *name) {
  struct fd_path path = fd_path(descriptor);
  return linkat(AT_FDCWD, path.text, directory, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

long clinux_getdents64(int directory, void *buffer, size_t size) {
  long result;
  AGAIN(result, syscall(SYS_getdents64, directory, buffer, size));
  return result;
}

int clinux_mkdirat(int directory, const char *name, unsigned mode) {
  return mkdirat(directory, name, mode) ? -errno : 0;
}

int clinux_mknodat(int directory, const char *name, unsigned mode, unsigned node_major, unsigned node_minor) {
  return mknodat(directory, name, mode, makedev(node_major, node_minor)) ? -errno : 0;
}

int clinux_symlinkat(const char *target, int directory, const char *name) {
  return symlinkat(target, directory, name) ? -errno : 0;
}

int clinux_linkat(int from_directory, const char *from, int directory, const char *name) {
  return linkat(from_directory, from, directory, name, 0) ? -errno : 0;
}

int clinux_unlinkat(int directory, const char *name, int is_directory) {
  return unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0) ? -errno : 0;
}

int clinux_renameat(int from_directory, const char *from, int directory, const char *name, int replace) {
  return syscall(SYS_renameat2, from_directory, from, directory, name, replace ? 0 : RENAME_NOREPLACE) ? -errno : 0;
}

long clinux_listxattrat(int directory, const char *name, char *buffer, size_t size) {
  long result = syscall(__NR_listxattrat, directory, name, AT_SYMLINK_NOFOLLOW, buffer, size);
  return result < 0 ? -errno : result;
}

long clinux_listxattr(int descriptor, char *buffer, size_t size) {
  struct fd_path path = fd_path(descriptor);
  long result = listxattr(path.text, buffer, size);
  return result < 0 ? -errno : result;
}

long clinux_getxattr(int descriptor, const char *attribute, void *buffer, size_t size) {
  struct fd_path path = fd_path(descriptor);
  long result = getxattr(path.text, attribute, buffer, size);
  return result < 0 ? -errno : result;
}

int clinux_setxattr(int descriptor, const char *attribute, const void *value, size_t size) {
  struct fd_path path = fd_path(descriptor);
  return setxattr(path.text, attribute, value, size, 0) ? -errno : 0;
}

int clinux_removexattr(int descriptor, const char *attribute) {
  struct fd_path path = fd_path(descriptor);
  return removexattr(path.text, attribute) ? -errno : 0;
}

long clinux_read(int descriptor, void *buffer, size_t size) {
  long result;
  AGAIN(result, read(descriptor, buffer, size));
  return result;
}

long clinux_pread(int descriptor, void *buffer, size_t size, int64_t offset) {
  long result;
  AGAIN(result, pread(descriptor, buffer, size, offset));
  return result;
}

long clinux_write(int descriptor, const void *buffer, size_t size) {
  long result;
  AGAIN(result, write(descriptor, buffer, size));
  return result;
}

long clinux_pwrite(int descriptor, const void *buffer, size_t size, int64_t offset) {
  long result;
  AGAIN(result, pwrite(descriptor, buffer, size, offset));
  return result;
}

int clinux_ftruncate(int descriptor, int64_t size) {
  int result;
  AGAIN(result, ftruncate(descriptor, size));
  return 0;
}

int64_t clinux_seek_data(int descriptor, int64_t offset) {
  int64_t result = lseek(descriptor, offset, SEEK_DATA);
  return result < 0 ? -errno : result;
}

int64_t clinux_seek_hole(int descriptor, int64_t offset) {
  int64_t result = lseek(descriptor, offset, SEEK_HOLE);
  return result < 0 ? -errno : result;
}

int clinux_ficlone(int descriptor, int source) { return ioctl(descriptor, FICLONE, source) ? -errno : 0; }

long clinux_copy_file_range(int source, int64_t from, int descriptor, int64_t to, size_t size) {
  loff_t in = from, out = to;
  long result;
  AGAIN(result, copy_file_range(source, &in, descriptor, &out, size, 0));
  return result;
}

int clinux_fsync(int descriptor) {
  int result;
  AGAIN(result, fsync(descriptor));
  return 0;
}

int clinux_fdatasync(int descriptor) {
  int result;
  AGAIN(result, fdatasync(descriptor));
  return 0;
}

int clinux_syncfs(int descriptor) { return syncfs(descriptor) ? -errno : 0; }

int clinux_lock(int descriptor, int wait) { return flock(descriptor, LOCK_EX | (wait ? 0 : LOCK_NB)) ? -errno : 0; }

int clinux_unlock(int descriptor) { return flock(descriptor, LOCK_UN) ? -errno : 0; }

int clinux_free_bytes(int descriptor, uint64_t *bytes) {
  struct statvfs stat;
  if (fstatvfs(descriptor, &stat)) return -errno;
  if (__builtin_mul_overflow((uint64_t)stat.f_bavail, (uint64_t)stat.f_frsize, bytes)) *bytes = UINT64_MAX;
  return 0;
}

int clinux_processors(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : count > 64 ? 64 : (int)count;
}

uint64_t clinux_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

int64_t clinux_realtime_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec;
}

static volatile sig_atomic_t stop_signal;

static void stop(int signal) { stop_signal = signal; }

void clinux_stop_on_signals(void) {
  /* One shot: a second signal finds the default action, so that a hung file system cannot hold the caller. */
  struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  /* Whoever started the program from a thread with signals blocked handed that on. */
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  sigprocmask(SIG_UNBLOCK, &signals, NULL);
}

int clinux_stop_signal(void) { return stop_signal; }

int clinux_confine(uint64_t keep) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -errno;
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)) return -errno;
  /* Before capset: dropping from the bounding set needs CAP_SETPCAP, which goes with it. Without it the set stays,
   * and no_new_privs alone keeps it from being gained. */
  for (int cap = 0; cap < 64; cap++) {
    if (keep & (1ULL << cap)) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && (errno == EPERM || errno == EINVAL)) break;
  }
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data)) return -errno;
  for (int half = 0; half < 2; half++) {
    data[half].permitted &= (uint32_t)(keep >> (32 * half));
    data[half].effective = data[half].permitted;
    data[half].inheritable = 0;
  }
  return syscall(SYS_capset, &header, data) ? -errno : 0;
}
