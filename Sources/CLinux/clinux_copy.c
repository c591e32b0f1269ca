#define _GNU_SOURCE
#include "clinux_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

int clinux_open_fchmod(int descriptor, unsigned mode) { return fchmod(descriptor, mode) ? -errno : 0; }

long clinux_open_listxattr(int descriptor, char *buffer, size_t size) {
  long result = flistxattr(descriptor, buffer, size);
  return result < 0 ? -errno : result;
}

long clinux_open_getxattr(int descriptor, const char *attribute, void *buffer, size_t size) {
  long result = fgetxattr(descriptor, attribute, buffer, size);
  return result < 0 ? -errno : result;
}

int clinux_open_setxattr(int descriptor, const char *attribute, const void *value, size_t size) {
  return fsetxattr(descriptor, attribute, value, size, 0) ? -errno : 0;
}

int clinux_open_removexattr(int descriptor, const char *attribute) {
  return fremovexattr(descriptor, attribute) ? -errno : 0;
}

int clinux_exchange(int from_directory, const char *from, int directory, const char *name) {
  return syscall(SYS_renameat2, from_directory, from, directory, name, RENAME_EXCHANGE) ? -errno : 0;
}

int clinux_stop_descriptor(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  if (sigprocmask(SIG_BLOCK, &signals, NULL)) return -errno;
  int result = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  return result < 0 ? -errno : result;
}
