/* What copying a tree through a pipe takes besides clinux_files.h. Each returns what the kernel returns, or the negative
 * error number. The calls on attributes take a descriptor that is open for reading or writing and never go by /proc:
 * inside a machine, what is mounted there is the machine's. */
#pragma once
#include <stddef.h>

int clinux_open_fchmod(int descriptor, unsigned mode);
long clinux_open_listxattr(int descriptor, char *buffer, size_t size);
long clinux_open_getxattr(int descriptor, const char *attribute, void *buffer, size_t size);
int clinux_open_setxattr(int descriptor, const char *attribute, const void *value, size_t size);
int clinux_open_removexattr(int descriptor, const char *attribute);

/* renameat2(RENAME_EXCHANGE): both names are there before and after. */
int clinux_exchange(int from_directory, const char *from, int directory, const char *name);

/* Blocks SIGINT, SIGTERM and SIGHUP and returns a descriptor that becomes readable when one of them comes. */
int clinux_stop_descriptor(void);
