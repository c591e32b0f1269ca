#define _GNU_SOURCE
#include "clinux_trap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Younger than the oldest headers that this is built with. */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
enum { io_uring_setup = 425 };

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
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, io_uring_setup, 8, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCHITECTURE, 0, 7),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
      /* x32: nobody uses it, and it is another door to everything. */
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 4, 0),
#else
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
#endif
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept4, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_accept, 0, 2),
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
    SYS_accept4, SYS_close, SYS_connect, SYS_fcntl, SYS_getdents64, SYS_getsockname, SYS_getsockopt, SYS_ioctl, SYS_kcmp,
    SYS_lseek, SYS_newfstatat, SYS_openat, SYS_pidfd_getfd, SYS_pidfd_open, SYS_ppoll, SYS_pread64, SYS_process_vm_readv,
    SYS_pwrite64, SYS_read, SYS_recvfrom, SYS_recvmsg, SYS_seccomp, SYS_sendmsg, SYS_sendto, SYS_setitimer,
    SYS_setsockopt, SYS_socket, SYS_write,
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
  int number = message->data.nr;
  *call = (struct clinux_held_call){
      .id = message->id,
      .is_accept = number == SYS_accept || number == SYS_accept4,
      .address = message->data.args[1],
      .size = (uint32_t)message->data.args[2],
      .size_address = message->data.args[2],
      .flags = number == SYS_accept4 ? (uint32_t)message->data.args[3] : 0,
      .thread = (int)message->pid,
      .descriptor = (int)message->data.args[0],
  };
  return message->id != 0;
}

bool clinux_trap_wait(int listener, int other) {
  struct pollfd states[] = {{.fd = listener, .events = POLLIN}, {.fd = other, .events = POLLIN}};
  int result;
  do result = poll(states, 2, -1);
  while (result < 0 && errno == EINTR);
  return states[1].revents;
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

int clinux_trap_add(int listener, uint64_t id, int ours, bool close_on_exec) {
  struct seccomp_notif_addfd request = {
      .id = id,
      .flags = SECCOMP_ADDFD_FLAG_SEND,
      .srcfd = (uint32_t)ours,
      .newfd_flags = close_on_exec ? O_CLOEXEC : 0,
  };
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &request);
}
