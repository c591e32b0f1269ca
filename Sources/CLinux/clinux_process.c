#define _GNU_SOURCE
#include "clinux_process.h"

#include <errno.h>
#include <link.h>
#include <linux/sched.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const int clinux_sigrtmin = 34;

int clinux_pidfd_open(int process) { return (int)syscall(SYS_pidfd_open, process, 0); }

int clinux_pidfd_signal(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }

int clinux_pidfd_reap(int pidfd, bool wait, struct clinux_exit *exit) {
  siginfo_t info = {0};
  int result;
  do {
    result = waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED | (wait ? 0 : WNOHANG));
  } while (result < 0 && errno == EINTR);
  if (result < 0) return -1;
  if (info.si_pid == 0) return 0;
  *exit = (struct clinux_exit){
      .process = info.si_pid, .status = info.si_status, .signalled = info.si_code != CLD_EXITED};
  return 1;
}

int clinux_clone_sibling(uint64_t namespaces, int *pidfd) {
  struct clone_args arguments = {
      .flags = namespaces | CLONE_PIDFD | CLONE_PARENT,
      .pidfd = (uint64_t)(uintptr_t)pidfd,
  };
  return (int)syscall(SYS_clone3, &arguments, sizeof arguments);
}

int clinux_fork(void) {
  struct clone_args arguments = {.exit_signal = SIGCHLD};
  return (int)syscall(SYS_clone3, &arguments, sizeof arguments);
}

int clinux_write_aside(int descriptor, const void *bytes, size_t count, int *pidfd) {
  sigset_t all, previous;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &previous);
  struct clone_args arguments = {
      .flags = CLONE_PIDFD,
      .pidfd = (uint64_t)(uintptr_t)pidfd,
      .exit_signal = SIGCHLD,
  };
  int child = (int)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) {
    /* Locks and connections of the caller's end with the caller. */
    if (descriptor > 0) syscall(SYS_close_range, 0U, (unsigned)descriptor - 1, 0U);
    syscall(SYS_close_range, (unsigned)descriptor + 1, ~0U, 0U);
    _exit(write(descriptor, bytes, count) == (ssize_t)count ? 0 : 1);
  }
  int error = errno;
  sigprocmask(SIG_SETMASK, &previous, NULL);
  errno = error;
  return child;
}

struct written {
  int descriptor;
  const char *text;
};

static void *write_and_close(void *argument) {
  const struct written *what = argument;
  ssize_t ignored = write(what->descriptor, what->text, strlen(what->text));
  (void)ignored;
  close(what->descriptor);
  return NULL;
}

bool clinux_write_beside(int descriptor, const char *text) {
  static struct written what;
  pthread_t thread;
  sigset_t all, previous;
  what = (struct written){.descriptor = descriptor, .text = text};
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &previous);
  int result = pthread_create(&thread, NULL, write_and_close, &what);
  pthread_sigmask(SIG_SETMASK, &previous, NULL);
  if (result == 0) return pthread_detach(thread) == 0;
  close(descriptor);
  return false;
}

int clinux_set_dumpable(bool dumpable) { return prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0, 0, 0, 0); }
int clinux_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }
int clinux_set_child_subreaper(bool reaper) { return prctl(PR_SET_CHILD_SUBREAPER, reaper ? 1 : 0, 0, 0, 0); }
int clinux_set_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }
int clinux_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
int clinux_drop_bounding(unsigned capability) { return prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); }
int clinux_clear_ambient(void) { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); }

int clinux_become(unsigned uid, unsigned gid) {
  if (syscall(SYS_setgroups, 0, NULL) < 0) return -1;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return -1;
  return (int)syscall(SYS_setresuid, uid, uid, uid);
}

int clinux_become_user(unsigned uid, unsigned gid, const unsigned *groups, int count) {
  if (syscall(SYS_setgroups, count, groups) < 0) return -1;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return -1;
  return (int)syscall(SYS_setresuid, uid, uid, uid);
}

int clinux_take_terminal(void) {
  if (setsid() < 0) return -1;
  return ioctl(0, TIOCSCTTY, 0);
}

void clinux_reset_signals(void) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal < 65; signal++) sigaction(signal, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

int clinux_execute(const char *path, const char *const *arguments, const char *const *environment) {
  return execve(path, (char *const *)arguments, (char *const *)environment);
}

int clinux_execute_again(const char *path, const char *const *arguments) {
  return execv(path, (char *const *)arguments);
}

uint64_t clinux_monotonic_microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clinux_unix_seconds(void) { return (uint64_t)time(NULL); }

uint64_t clinux_unix_microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int clinux_join_session_keyring(void) {
  long result = syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL);
  return result < 0 && errno != ENOSYS ? -1 : 0;
}

bool clinux_keyrings_are_refused(void) {
  return syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* the session's */, 0) < 0 && errno == EPERM;
}

static int release_object(struct dl_phdr_info *object, size_t size, void *data) {
  (void)size, (void)data;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (int index = 0; index < object->dlpi_phnum; index++) {
    const ElfW(Phdr) *header = &object->dlpi_phdr[index];
    /* Only what nobody has written to: relocated data is in writable segments, and would be lost. */
    if (header->p_type != PT_LOAD || (header->p_flags & PF_W)) continue;
    uintptr_t start = (object->dlpi_addr + header->p_vaddr) & ~(page - 1);
    uintptr_t end = (object->dlpi_addr + header->p_vaddr + header->p_memsz + page - 1) & ~(page - 1);
    /* The vdso is an object without a file; the kernel refuses it, and that is all. */
    madvise((void *)start, end - start, MADV_DONTNEED);
  }
  return 0;
}

void clinux_release_memory(void) {
  malloc_trim(0);
  dl_iterate_phdr(release_object, NULL);
}

int clinux_own_processors(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}
