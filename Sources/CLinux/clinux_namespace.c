#define _GNU_SOURCE
#include "clinux_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const uint64_t clinux_newuser = CLONE_NEWUSER;
const uint64_t clinux_newns = CLONE_NEWNS;
const uint64_t clinux_newpid = CLONE_NEWPID;
const uint64_t clinux_newnet = CLONE_NEWNET;
const uint64_t clinux_newipc = CLONE_NEWIPC;
const uint64_t clinux_newuts = CLONE_NEWUTS;
const uint64_t clinux_newcgroup = CLONE_NEWCGROUP;

/* Raw calls: the C library's wrappers would try to tell other threads, of which the child has none. */
static int become(unsigned uid, unsigned gid) {
  if (syscall(SYS_setgroups, 0, NULL) < 0) return errno;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return errno;
  if (syscall(SYS_setresuid, uid, uid, uid) < 0) return errno;
  return 0;
}

/* ids: user and group to become first; NULL stays who the caller is. */
static int hold_namespaces(const unsigned *ids, uint64_t kinds, int *release) {
  int ready[2], hold[2];
  if (pipe2(ready, O_CLOEXEC) < 0) return -1;
  if (pipe2(hold, O_CLOEXEC) < 0) {
    close(ready[0]), close(ready[1]);
    return -1;
  }
  struct clone_args arguments = {.exit_signal = SIGCHLD};
  int child = (int)syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(hold[1]);
    int error = ids ? become(ids[0], ids[1]) : 0;
    if (!error && unshare((int)kinds) < 0) error = errno;
    char byte;
    if (write(ready[1], &error, sizeof error) != sizeof error || error) _exit(1);
    while (read(hold[0], &byte, 1) < 0 && errno == EINTR) continue;
    _exit(0);
  }
  int saved = errno;
  close(ready[1]);
  close(hold[0]);
  int error = saved;
  if (child > 0) {
    ssize_t length;
    do length = read(ready[0], &error, sizeof error);
    while (length < 0 && errno == EINTR);
    if (length != sizeof error) error = ECHILD;
  }
  close(ready[0]);
  if (child < 0 || error) {
    close(hold[1]);
    if (child > 0) clinux_user_namespace_release(child, -1);
    errno = error;
    return -1;
  }
  *release = hold[1];
  return child;
}

int clinux_user_namespace_create(unsigned uid, unsigned gid, int *release) {
  const unsigned ids[] = {uid, gid};
  return hold_namespaces(ids, CLONE_NEWUSER, release);
}

int clinux_namespaces_create(uint64_t kinds, int *release) { return hold_namespaces(NULL, kinds, release); }

void clinux_user_namespace_release(int child, int release) {
  if (release >= 0) close(release);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

bool clinux_owns_network(void) {
  int network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (network < 0) return false;
  /* Refused for one whose owner is neither the caller's user namespace nor below that. */
  int owner = ioctl(network, NS_GET_USERNS);
  close(network);
  if (owner < 0) return false;
  close(owner);
  return true;
}

int clinux_setns(int descriptor, uint64_t kind) { return setns(descriptor, (int)kind); }

int clinux_unshare(uint64_t kinds) { return unshare((int)kinds); }
