#define _GNU_SOURCE
#include "clinux_trap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Younger than the oldest headers that this is built with. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
enum { io_uring_setup = 425, pidfd_thread = O_EXCL, kcmp_file = 0, kcmp_epoll = 7, most_descriptors = 1024 };

#if defined(__x86_64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "no trap for this processor"
#endif

int clinux_trap_set(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      /* It has this number with every kind of calls. */
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, io_uring_setup, 6, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCHITECTURE, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
      /* x32: nobody uses it, and it is another door to everything. */
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 2, 0),
#else
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
#endif
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 2),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  /* A signal to a caller whose call is in hand waits, unless it kills: a call given up half way would be made twice. */
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
  if (result < 0 && errno == EINVAL) result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  /* The caller sleeps until it is answered: whoever answers may as well run where it did. Older kernels do without. */
  if (result >= 0) ioctl((int)result, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  return (int)result;
}

static const int keepers_calls[] = {
    /* What it is for. */
    SYS_close, SYS_connect, SYS_fcntl, SYS_getdents64, SYS_getsockname, SYS_getsockopt, SYS_ioctl, SYS_kcmp, SYS_openat,
    SYS_pidfd_getfd, SYS_pidfd_open, SYS_ppoll, SYS_process_vm_readv, SYS_read, SYS_recvfrom, SYS_seccomp, SYS_sendmsg,
    SYS_sendto, SYS_setsockopt, SYS_socket, SYS_write,
#if defined(__x86_64__)
    SYS_pause, SYS_poll,
#endif
    /* What any program does. */
    SYS_brk, SYS_clock_gettime, SYS_exit, SYS_exit_group, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_madvise,
    SYS_mmap, SYS_mremap, SYS_munmap, SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_tgkill,
};

int clinux_trap_confine_keeper(void) {
  enum { count = sizeof keepers_calls / sizeof *keepers_calls };
  struct sock_filter code[count + 6];
  unsigned short length = 0;
  code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCHITECTURE, 0, count + 1);
  code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int index = 0; index < count; index++)
    code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)keepers_calls[index],
                                                  (uint8_t)(count - index), 0);
  code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = length, .filter = code};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

size_t clinux_trap_message_size(void) {
  static struct seccomp_notif_sizes sizes;
  if (!sizes.seccomp_notif && syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0) return 0;
  return sizes.seccomp_notif < sizeof(struct seccomp_notif) ? sizeof(struct seccomp_notif) : sizes.seccomp_notif;
}

bool clinux_trap_held(const void *slot, struct clinux_held_call *call) {
  const struct seccomp_notif *message = slot;
  *call = (struct clinux_held_call){
      .id = message->id,
      .address = message->data.args[1],
      .size = (uint32_t)message->data.args[2],
      .thread = (int)message->pid,
      .descriptor = (int)message->data.args[0],
  };
  return message->id != 0;
}

int clinux_trap_receive(int listener, void *slot, struct clinux_held_call *call) {
  int result;
  do result = ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, slot);
  while (result < 0 && errno == EINTR);
  if (result == 0) {
    clinux_trap_held(slot, call);
    return 0;
  }
  int error = errno;
  /* The kernel may have written there, and wants it empty. */
  clinux_trap_done(slot);
  struct pollfd state = {.fd = listener, .events = POLLIN};
  if (poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR))) error = EPIPE;
  errno = error;
  return -1;
}

void clinux_trap_done(void *slot) { memset(slot, 0, clinux_trap_message_size()); }

bool clinux_trap_is_held(int listener, uint64_t id) { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }

/* The kernel's part of the answer may be longer than the one that this was built with. */
static int answer(int listener, uint64_t id, int error, uint32_t flags) {
  union {
    struct seccomp_notif_resp response;
    char room[512];
  } all;
  memset(&all, 0, sizeof all);
  all.response = (struct seccomp_notif_resp){.id = id, .error = -error, .flags = flags};
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &all);
}

int clinux_trap_continue(int listener, uint64_t id) {
  return answer(listener, id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

int clinux_trap_answer(int listener, uint64_t id, int error) { return answer(listener, id, error, 0); }

int clinux_trap_replace(int listener, uint64_t id, int ours, int theirs, bool close_on_exec) {
  struct seccomp_notif_addfd request = {
      .id = id,
      .flags = SECCOMP_ADDFD_FLAG_SETFD,
      .srcfd = (uint32_t)ours,
      .newfd = (uint32_t)theirs,
      .newfd_flags = close_on_exec ? O_CLOEXEC : 0,
  };
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &request);
}

/* The process that a thread belongs to. */
static int process_of(int proc, int thread) {
  char text[2048];
  snprintf(text, sizeof text, "%d/status", thread);
  int file = openat(proc, text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = 0;
  /* Before it comes only the name, in which the kernel escapes line ends. */
  const char *line = strstr(text, "\nTgid:");
  return line ? atoi(line + 6) : -1;
}

int clinux_thread_open(int proc, int thread) {
  int result = (int)syscall(SYS_pidfd_open, thread, pidfd_thread);
  if (result >= 0 || errno != EINVAL) return result;
  int process = process_of(proc, thread);
  return process > 0 ? (int)syscall(SYS_pidfd_open, process, 0) : -1;
}

int clinux_thread_take(int thread, int descriptor) { return (int)syscall(SYS_pidfd_getfd, thread, descriptor, 0); }

long clinux_thread_read(int thread, uint64_t address, void *bytes, size_t size) {
  struct iovec ours = {.iov_base = bytes, .iov_len = size};
  struct iovec theirs = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
  return process_vm_readv(thread, &ours, 1, &theirs, 1, 0);
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

static int marks(int proc, int thread, int descriptor, bool *close_on_exec) {
  char text[64 + 256];
  snprintf(text, sizeof text, "%d/fdinfo/%d", thread, descriptor);
  int file = openat(proc, text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  if (size <= 0) return -1;
  text[size] = 0;
  const char *line = strstr(text, "flags:");
  if (!line) return -1;
  *close_on_exec = strtoul(line + 6, NULL, 8) & O_CLOEXEC;
  return 0;
}

struct entry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

int clinux_socket_sharing(int proc, int thread, int descriptor, bool *close_on_exec) {
  char path[64];
  _Alignas(struct entry) char buffer[16384];
  int result = clinux_socket_alone, seen = 0;
  if (marks(proc, thread, descriptor, close_on_exec) < 0) return -1;
  snprintf(path, sizeof path, "%d/fd", thread);
  int folder = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return -1;
  while (result == clinux_socket_alone) {
    long size = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
    if (size < 0) result = -1;
    if (size <= 0) break;
    for (long place = 0; place < size && result == clinux_socket_alone;) {
      const struct entry *entry = (const void *)(buffer + place);
      place += entry->length;
      if (entry->name[0] < '0' || entry->name[0] > '9') continue;
      int number = atoi(entry->name);
      if (number == descriptor) continue;
      if (++seen > most_descriptors) result = clinux_socket_crowd;
      else if (syscall(SYS_kcmp, thread, thread, kcmp_file, descriptor, number) == 0) result = clinux_socket_twice;
      else {
        int found = has_in_epoll(thread, number, descriptor);
        if (found) result = found < 0 ? -1 : clinux_socket_in_epoll;
      }
    }
  }
  close(folder);
  return result;
}
