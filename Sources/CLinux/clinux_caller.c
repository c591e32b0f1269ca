#define _GNU_SOURCE
#include "clinux_caller.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Younger than the oldest headers that this is built with. */
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
enum {
  pidfd_thread = O_EXCL,
  kcmp_file = 0,
  kcmp_epoll = 7,
  few_descriptors = 32,
  most_descriptors = 1024,
  most_callers = 16,
};

/*
 * A thread that called lately. All three descriptors stand for the thread itself: when it has ended they show nothing,
 * and who has its number then has to be opened anew, with all that goes with it.
 */
static struct caller {
  int thread;
  int handle;
  /* Its folder of descriptors, and what tells of one of them, of this number. -1 until they are needed. */
  int folder, marks, marked;
} callers[most_callers];

static struct caller *place_of(int thread) { return &callers[(unsigned)thread % most_callers]; }

static void forget(struct caller *caller) {
  if (!caller->thread) return;
  close(caller->handle);
  if (caller->folder >= 0) close(caller->folder);
  if (caller->marks >= 0) close(caller->marks);
  caller->thread = 0;
}

/* The number behind a line's beginning in a file about a thread; -1 where there is none. */
static long number_in(int proc, int thread, const char *name, const char *beginning) {
  char text[2048];
  snprintf(text, sizeof text, "%d/%s", thread, name);
  int file = openat(proc, text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = 0;
  const char *line = strstr(text, beginning);
  char *end = text;
  long number = line ? strtol(line + strlen(beginning), &end, 10) : -1;
  return line && end > line + strlen(beginning) ? number : -1;
}

/* The process that a thread belongs to. Before that line comes only the name, in which the kernel escapes line ends. */
static int process_of(int proc, int thread) { return (int)number_in(proc, thread, "status", "\nTgid:"); }

static void remember(struct caller *caller, int thread, int handle) {
  forget(caller);
  *caller = (struct caller){.thread = thread, .handle = handle, .folder = -1, .marks = -1, .marked = -1};
}

int clinux_caller_take(int proc, int thread, int descriptor) {
  static bool is_process_only;
  struct caller *caller = place_of(thread);
  /* One that this process cannot see has no number. */
  if (thread <= 0) {
    errno = ESRCH;
    return -1;
  }
  /* A handle of a process says nothing of its threads: another one may have the number by now. */
  if (caller->thread == thread && !is_process_only) {
    int result = (int)syscall(SYS_pidfd_getfd, caller->handle, descriptor, 0);
    if (result >= 0 || errno != ESRCH) return result;
  }
  int handle = is_process_only ? -1 : (int)syscall(SYS_pidfd_open, thread, pidfd_thread);
  if (handle < 0 && (is_process_only || errno == EINVAL)) {
    is_process_only = true;
    int process = process_of(proc, thread);
    handle = process > 0 ? (int)syscall(SYS_pidfd_open, process, 0) : -1;
  }
  if (handle < 0) return -1;
  remember(caller, thread, handle);
  return (int)syscall(SYS_pidfd_getfd, handle, descriptor, 0);
}

long clinux_caller_read(int thread, uint64_t address, void *bytes, size_t size) {
  struct iovec ours = {.iov_base = bytes, .iov_len = size};
  struct iovec theirs = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
  return process_vm_readv(thread, &ours, 1, &theirs, 1, 0);
}

int clinux_caller_memory(int proc, int thread) {
  char text[64];
  snprintf(text, sizeof text, "%d/mem", thread);
  return openat(proc, text, O_RDWR | O_CLOEXEC);
}

long clinux_caller_marks(int proc, int thread, int descriptor) {
  struct caller *caller = place_of(thread);
  char text[64 + 256];
  if (caller->thread != thread) return -1;
  if (caller->marks >= 0 && caller->marked != descriptor) {
    close(caller->marks);
    caller->marks = -1;
  }
  if (caller->marks < 0) {
    snprintf(text, sizeof text, "%d/fdinfo/%d", thread, descriptor);
    caller->marks = openat(proc, text, O_RDONLY | O_CLOEXEC);
    caller->marked = descriptor;
    if (caller->marks < 0) return -1;
  }
  /* It tells of whatever has this number when it is read. */
  ssize_t size = pread(caller->marks, text, sizeof text - 1, 0);
  if (size <= 0) return -1;
  text[size] = 0;
  const char *line = strstr(text, "flags:");
  return line ? (long)strtoul(line + 6, NULL, 8) : -1;
}

/*
 * Whether a number is an epoll that has our descriptor, which it tells by the number and the open file that it was told
 * of: 1 when it has, 0 when not or when it is something else, -1 where that cannot be seen.
 */
static int has_in_epoll(int thread, int number, int descriptor) {
  struct {
    uint32_t epoll, descriptor, offset;
  } slot = {.epoll = (uint32_t)number, .descriptor = (uint32_t)descriptor};
  for (; slot.offset < 16; slot.offset++) {
    long result = syscall(SYS_kcmp, thread, thread, kcmp_epoll, descriptor, &slot);
    if (result == 0) return 1;
    if (result < 0) return errno == EINVAL || errno == ENOENT || errno == EBADF ? 0 : -1;
  }
  return 1;
}

/* What another number has to do with our descriptor: a clinux_socket_sharing, or -1; *is_open is whether it is one. */
static int compare(int thread, int number, int descriptor, bool *is_open) {
  long result = syscall(SYS_kcmp, thread, thread, kcmp_file, descriptor, number);
  *is_open = result >= 0;
  if (result == 0) return clinux_socket_twice;
  if (result < 0) return errno == EBADF ? clinux_socket_alone : -1;
  int found = has_in_epoll(thread, number, descriptor);
  return found < 0 ? -1 : found ? clinux_socket_in_epoll : clinux_socket_alone;
}

bool clinux_caller_has_room(int proc, int thread) {
  char text[64];
  struct stat status;
  snprintf(text, sizeof text, "%d/fd", thread);
  if (fstatat(proc, text, &status, 0) < 0 || status.st_size <= 0) return true;
  long limit = number_in(proc, thread, "limits", "\nMax open files ");
  return limit < 0 || status.st_size < limit;
}

struct entry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

int clinux_caller_sharing(int proc, int thread, int descriptor) {
  struct caller *caller = place_of(thread);
  _Alignas(struct entry) char buffer[16384];
  int result = clinux_socket_alone, first = 0, seen = 0;
  bool is_open;
  if (caller->thread != thread) return -1;
  /* The kernel gives out the lowest number that is free: below ours there are few holes, and nobody has to list. */
  if (descriptor < few_descriptors)
    for (; first <= descriptor; first++) {
      if (first == descriptor) continue;
      result = compare(thread, first, descriptor, &is_open);
      if (result != clinux_socket_alone) return result;
      seen += is_open;
    }

  /* Whatever is behind that. In this folder the place of a number is the number, and two for "." and "..". */
  if (caller->folder < 0) {
    snprintf(buffer, sizeof buffer, "%d/fd", thread);
    caller->folder = openat(proc, buffer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (caller->folder < 0) return -1;
  }
  if (lseek(caller->folder, first + 2, SEEK_SET) < 0) return -1;
  for (;;) {
    long size = syscall(SYS_getdents64, caller->folder, buffer, sizeof buffer);
    if (size <= 0) return size < 0 ? -1 : result;
    for (long place = 0; place < size;) {
      const struct entry *entry = (const void *)(buffer + place);
      place += entry->length;
      if (entry->name[0] < '0' || entry->name[0] > '9') continue;
      int number = atoi(entry->name);
      if (number == descriptor) continue;
      if (++seen > most_descriptors) return clinux_socket_crowd;
      result = compare(thread, number, descriptor, &is_open);
      if (result != clinux_socket_alone) return result;
    }
  }
}
