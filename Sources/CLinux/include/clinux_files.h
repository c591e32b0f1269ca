/* Files beneath a directory descriptor: thin calls that Swift cannot make itself (variadic, behind a macro, or newer
 * than the C library). Each returns what the kernel returns, or the negative error number; none touches errno for the
 * caller, and each repeats itself when a signal interrupts it, except the ones that wait for a lock.
 *
 * No call follows a symbolic link in the last component, and none takes a path of more than one component except
 * clinux_openat2, whose RESOLVE_ flags keep it beneath its directory. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What is used of struct statx, without its padding. */
struct clinux_stat {
  uint64_t inode;
  uint64_t device;
  uint64_t mount;
  uint64_t size;
  uint64_t blocks;
  uint64_t attributes;
  int64_t modified_seconds;
  uint32_t modified_nanoseconds;
  uint32_t mode;
  uint32_t owner;
  uint32_t group;
  uint32_t links;
  uint32_t node_major;
  uint32_t node_minor;
};

extern const uint64_t CLINUX_STAT_IMMUTABLE;
extern const uint64_t CLINUX_STAT_APPEND;

extern const uint64_t CLINUX_RESOLVE_BENEATH;
extern const uint64_t CLINUX_RESOLVE_IN_ROOT;
extern const uint64_t CLINUX_RESOLVE_NO_SYMLINKS;
extern const uint64_t CLINUX_RESOLVE_NO_MAGICLINKS;
extern const uint64_t CLINUX_RESOLVE_NO_XDEV;

extern const int CLINUX_O_PATH;
extern const int CLINUX_O_NOFOLLOW;
extern const int CLINUX_O_CLOEXEC;
extern const int CLINUX_O_DIRECTORY;
extern const int CLINUX_O_NONBLOCK;

int clinux_openat(int directory, const char *name, int flags, unsigned mode);
int clinux_openat2(int directory, const char *path, int flags, unsigned mode, uint64_t resolve);
int clinux_close(int descriptor);
int clinux_dup(int descriptor);

/* An empty name means the descriptor itself, which may be O_PATH. */
int clinux_statx(int directory, const char *name, struct clinux_stat *result);
int clinux_fchownat(int directory, const char *name, unsigned owner, unsigned group);
int clinux_utimensat(int directory, const char *name, int64_t seconds, uint32_t nanoseconds);
long clinux_readlinkat(int directory, const char *name, char *buffer, size_t size);
/* Of an O_PATH descriptor: fchmodat2 (6.6), or /proc/self/fd before it. */
int clinux_chmod_descriptor(int descriptor, unsigned mode);
/* Opens anew, with other flags, what a descriptor (O_PATH or not) stands for, by /proc/self/fd. */
int clinux_reopen(int descriptor, int flags);
/* Links what a descriptor stands for to a new name, by /proc/self/fd: needs no CAP_DAC_READ_SEARCH. */
int clinux_link_descriptor(int descriptor, int directory, const char *name);

long clinux_getdents64(int directory, void *buffer, size_t size);
int clinux_mkdirat(int directory, const char *name, unsigned mode);
int clinux_mknodat(int directory, const char *name, unsigned mode, unsigned node_major, unsigned node_minor);
int clinux_symlinkat(const char *target, int directory, const char *name);
int clinux_linkat(int from_directory, const char *from, int directory, const char *name);
int clinux_unlinkat(int directory, const char *name, int is_directory);
/* Fails with EEXIST when the new name is taken, unless replace is set. */
int clinux_renameat(int from_directory, const char *from, int directory, const char *name, int replace);

/* Extended attributes. With a name: listxattrat and its kin (6.13), ENOSYS where the kernel lacks them. With the
 * descriptor alone (which may be O_PATH): by /proc/self/fd. */
long clinux_listxattrat(int directory, const char *name, char *buffer, size_t size);
long clinux_listxattr(int descriptor, char *buffer, size_t size);
long clinux_getxattr(int descriptor, const char *attribute, void *buffer, size_t size);
int clinux_setxattr(int descriptor, const char *attribute, const void *value, size_t size);
int clinux_removexattr(int descriptor, const char *attribute);

long clinux_read(int descriptor, void *buffer, size_t size);
long clinux_pread(int descriptor, void *buffer, size_t size, int64_t offset);
long clinux_write(int descriptor, const void *buffer, size_t size);
long clinux_pwrite(int descriptor, const void *buffer, size_t size, int64_t offset);
int clinux_ftruncate(int descriptor, int64_t size);
int64_t clinux_seek_data(int descriptor, int64_t offset);
int64_t clinux_seek_hole(int descriptor, int64_t offset);
int clinux_ficlone(int descriptor, int source);
long clinux_copy_file_range(int source, int64_t from, int descriptor, int64_t to, size_t size);
int clinux_fsync(int descriptor);
int clinux_fdatasync(int descriptor);
int clinux_syncfs(int descriptor);
/* An exclusive lock: EWOULDBLOCK when another open file holds it and wait is not set. */
int clinux_lock(int descriptor, int wait);
/* Gives a lock up, also for the copies of the descriptor that a child has between fork and exec: closing would not. */
int clinux_unlock(int descriptor);
/* Bytes that an ordinary user may still write to the file system. */
int clinux_free_bytes(int descriptor, uint64_t *bytes);

int clinux_processors(void);
uint64_t clinux_monotonic_nanoseconds(void);
int64_t clinux_realtime_seconds(void);

/* SIGINT, SIGTERM and SIGHUP set a flag from here on, and a second one ends the process. */
void clinux_stop_on_signals(void);
int clinux_stop_signal(void);

/* Sets no_new_privs, empties the bounding and ambient sets of all but `keep` (a mask of 1 << CAP_X),
 * and leaves of the permitted and effective sets only what is in `keep`. */
int clinux_confine(uint64_t keep);
