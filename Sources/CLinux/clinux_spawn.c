#define _GNU_SOURCE
#include "clinux_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { highest_descriptor = 32, patience_ms = 10000 };

/* poll(2) of one descriptor that can be read from some time; whether that came about. */
static bool comes(int descriptor) {
  struct pollfd entry = {.fd = descriptor, .events = POLLIN};
  int result;
  do result = poll(&entry, 1, patience_ms);
  while (result < 0 && errno == EINTR);
  return result > 0;
}

/* Runs in the child and does not return. */
static void run(const struct clinux_spawn *request, int report, const sigset_t *mask) {
  int copies[highest_descriptor];
  int error;
  if (request->parent_death_signal && prctl(PR_SET_PDEATHSIG, request->parent_death_signal) < 0) goto fail;
  if (request->new_session && setsid() < 0) goto fail;

  /* Everything is first copied above the target range, so that no target overwrites a source still needed. */
  int program = request->program;
  if (program >= 0 && (program = fcntl(program, F_DUPFD_CLOEXEC, highest_descriptor)) < 0) goto fail;
  if ((report = fcntl(report, F_DUPFD_CLOEXEC, highest_descriptor)) < 0) _exit(127);
  for (int index = 0; index < request->descriptor_count; index++) {
    int source = request->descriptors[index];
    copies[index] = source >= 0 ? fcntl(source, F_DUPFD_CLOEXEC, highest_descriptor)
                                : open("/dev/null", O_RDWR | O_CLOEXEC);
    if (copies[index] < 0) goto fail;
    if (copies[index] < highest_descriptor) {
      int moved = fcntl(copies[index], F_DUPFD_CLOEXEC, highest_descriptor);
      if (moved < 0) goto fail;
      copies[index] = moved;
    }
  }
  for (int index = 0; index < request->descriptor_count; index++)
    if (dup2(copies[index], index) < 0) goto fail;
  if (syscall(SYS_close_range, (unsigned)request->descriptor_count, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) < 0) goto fail;

  /* A handler of the parent's must not run here, and an ignored signal would stay ignored across exec. */
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int signal = 1; signal < 65; signal++) sigaction(signal, &action, NULL);
  sigprocmask(SIG_SETMASK, mask, NULL);

  if (program >= 0)
    syscall(SYS_execveat, program, "", request->arguments, request->environment, AT_EMPTY_PATH);
  else
    execve(request->path, (char *const *)request->arguments, (char *const *)request->environment);
fail:
  error = errno;
  if (write(report, &error, sizeof error) < 0) _exit(126);
  _exit(127);
}

int clinux_spawn_program(const struct clinux_spawn *request, int *pidfd) {
  if (request->descriptor_count > highest_descriptor) {
    errno = EMFILE;
    return -1;
  }
  int report[2];
  if (pipe2(report, O_CLOEXEC) < 0) return -1;
  sigset_t all, none, previous;
  sigfillset(&all);
  sigemptyset(&none);
  sigprocmask(SIG_BLOCK, &all, &previous);

  *pidfd = -1;
  struct clone_args arguments = {
      .flags = CLONE_PIDFD,
      .pidfd = (uint64_t)(uintptr_t)pidfd,
      .exit_signal = SIGCHLD,
  };
  if (request->cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (uint64_t)request->cgroup;
  }
  int child = (int)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) run(request, report[1], &none);
  int error = errno;
  bool is_stuck = false;
  sigprocmask(SIG_SETMASK, &previous, NULL);
  close(report[1]);
  /* In a control group that is frozen it does not come to its program, and must not hold us up. */
  if (child > 0 && !comes(report[0])) {
    kill(child, SIGKILL);
    error = ETIMEDOUT;
    is_stuck = !comes(*pidfd);
  } else if (child > 0) {
    ssize_t length;
    do length = read(report[0], &error, sizeof error);
    while (length < 0 && errno == EINTR);
    if (length != sizeof error) error = 0;
  }
  close(report[0]);
  if (child < 0 || error) {
    if (child > 0) {
      while (waitpid(child, NULL, is_stuck ? WNOHANG : 0) < 0 && errno == EINTR) continue;
      close(*pidfd);
      *pidfd = -1;
    }
    errno = error;
    return -1;
  }
  return child;
}
