/* Opening beneath a directory, anonymous files, locks: calls and flags that Swift's Glibc module does not show. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/types.h>

extern const int clinux_o_path;
extern const int clinux_o_cloexec;
extern const int clinux_o_nofollow;
extern const int clinux_o_directory;
extern const int clinux_o_tmpfile;
extern const int clinux_at_empty_path;
extern const int clinux_at_symlink_nofollow;

extern const uint64_t clinux_resolve_beneath;
extern const uint64_t clinux_resolve_in_root;
extern const uint64_t clinux_resolve_no_magiclinks;
extern const uint64_t clinux_resolve_no_symlinks;
extern const uint64_t clinux_resolve_no_xdev;

/* openat2(2): opens path as seen from directory, under the given restrictions on the way. A terminal does not become
   the controlling one of the process. */
int clinux_open_beneath(int directory, const char *path, int flags, unsigned mode, uint64_t resolve);

/* close_range(2): closes every descriptor from first on, or marks them close-on-exec. */
int clinux_close_range(unsigned first, bool only_mark_cloexec);

/* memfd_create(2), executable and sealable. */
int clinux_memfd_create(const char *name, bool executable);

/* Seals an anonymous file: no write, no growing, no shrinking, no further seal. */
int clinux_memfd_seal(int descriptor);

/* renameat2(2) that refuses to replace what is there. */
int clinux_rename_noreplace(int from_directory, const char *from, int to_directory, const char *to);

/* flock(2), exclusive or shared, without waiting unless asked to. */
int clinux_flock(int descriptor, bool exclusive, bool wait);

struct clinux_status {
  unsigned mode;
  unsigned uid;
  unsigned gid;
  unsigned rdev_major;
  unsigned rdev_minor;
  uint64_t inode;
  uint64_t size;
  uint64_t device;
};

/* fstatat(2) of path in directory, never following a last symlink; an empty path is the directory itself. */
int clinux_status(int directory, const char *path, struct clinux_status *status);

/* The magic number of the file system that holds descriptor; 0 with errno set where it cannot be had. */
uint64_t clinux_filesystem(int descriptor);
extern const uint64_t clinux_cgroup2_magic;

/* setfsuid(2) and setfsgid(2): the ids under which this thread makes files. */
void clinux_set_filesystem_ids(unsigned uid, unsigned gid);

/* Whether descriptor is an anonymous file with all the seals of clinux_memfd_seal. */
bool clinux_memfd_is_sealed(int descriptor);

/* pipe2(2): the end to read from and the end to write to, close-on-exec, with room for so many bytes where the kernel
 * grants it. */
int clinux_pipe(int ends[2], int size);
/* How many bytes can be read from a pipe at once (FIONREAD); -1 for what cannot tell. */
int clinux_readable_bytes(int descriptor);
/* splice(2) with SPLICE_F_MOVE; one of the two must be a pipe. Without waiting it is -1 with EAGAIN when nothing moves. */
ssize_t clinux_splice(int from, int to, size_t size, bool wait);
