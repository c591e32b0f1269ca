/* The mount API on descriptors: nothing here follows a path that a machine controls. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

extern const uint64_t clinux_mount_rdonly;
extern const uint64_t clinux_mount_nosuid;
extern const uint64_t clinux_mount_nodev;
extern const uint64_t clinux_mount_noexec;
extern const uint64_t clinux_mount_nosymfollow;
extern const unsigned long clinux_ms_private;
extern const unsigned long clinux_ms_slave;
extern const unsigned long clinux_ms_shared;

/* open_tree(2): a detached copy of the mount at path in directory (an empty path: the directory itself). */
int clinux_open_tree(int directory, const char *path, bool recursive, bool follow);

/* mount_setattr(2) on a mount held by a descriptor. user_namespace is -1, or maps the ids of the mount. */
int clinux_mount_setattr(int mount, bool recursive, uint64_t set, uint64_t clear, int user_namespace);

/* mount_setattr(2): propagation of the mount tree at path. */
int clinux_mount_propagation(int directory, const char *path, bool recursive, unsigned long propagation);

/* move_mount(2): attaches a detached mount on top of what target (a descriptor) refers to. */
int clinux_move_mount(int mount, int target);

/* The number of the mount that a descriptor is in, which no other mount gets as long as the kernel runs. */
int clinux_mount_id(int descriptor, uint64_t *id);

/* umount2(2) without following a link at the end of the path. */
int clinux_unmount(const char *path, bool lazy);

int clinux_fsopen(const char *filesystem);
int clinux_fsconfig_string(int context, const char *key, const char *value);
int clinux_fsconfig_flag(int context, const char *key);
int clinux_fsconfig_descriptor(int context, const char *key, int descriptor);
int clinux_fsconfig_create(int context);
/* fsmount(2): a detached mount of the file system that was created, with these attributes. */
int clinux_fsmount(int context, uint64_t attributes);

/* Reads what the file system had to say of the last failure into text; returns its length, 0 for nothing. */
int clinux_fscontext_message(int context, char *text, int size);

/* pivot_root(".", ".") into the current directory, and drops the old root beneath it. */
int clinux_pivot_here(void);

/* Whether something else than the arguments of pivot_root, a seccomp filter, keeps who may mount from it. */
bool clinux_pivot_is_refused(void);
