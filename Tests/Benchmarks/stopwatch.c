/* Times one command from just before it is spawned until the event that the caller names.
 *
 *   stopwatch [-m MNTNS] [-c CGROUP] [-n SOCKET] [-l LOG] [-t SECONDS] (ready | line | exit) COMMAND…
 *
 * ready: READY=1 comes in on SOCKET, which is made here and passed on as NOTIFY_SOCKET.
 * line:  the command prints a line.        exit: the command ends with status 0.
 *
 * The mount namespace and the cgroup are entered before the clock starts. Prints "START END", CLOCK_MONOTONIC in
 * nanoseconds, then keeps the socket drained (a full queue stops the guest's PID 1) until its stdin ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, const char *path) {
  fprintf(stderr, "stopwatch: %s %s: %s\n", what, path, strerror(errno));
  exit(1);
}

static int listen_at(const char *path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof name.sun_path) errno = ENAMETOOLONG, fail("name", path);
  strcpy(name.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  unlink(path);
  if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) || chmod(path, 0666)) fail("bind", path);
  setenv("NOTIFY_SOCKET", path, 1);
  return fd;
}

static int drained_ready(int fd) {
  char text[4096];
  int ready = 0;
  for (ssize_t n; (n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT)) > 0;) {
    text[n] = 0;
    char *at = strstr(text, "READY=1");
    if (at && (at == text || at[-1] == '\n')) ready = 1;
  }
  return ready;
}

int main(int argc, char **argv) {
  const char *socket_path = NULL, *log = "/dev/null";
  int limit = 60;
  for (int o; (o = getopt(argc, argv, "+m:c:n:l:t:")) != -1;) {
    int fd;
    if (o == 'm') {
      if ((fd = open(optarg, O_RDONLY | O_CLOEXEC)) < 0 || setns(fd, CLONE_NEWNS)) fail("join", optarg);
      close(fd);
    } else if (o == 'c') {
      char file[4096];
      snprintf(file, sizeof file, "%s/cgroup.procs", optarg);
      if ((fd = open(file, O_WRONLY | O_CLOEXEC)) < 0 || write(fd, "0", 1) != 1) fail("enter", file);
      close(fd);
    } else if (o == 'n') {
      socket_path = optarg;
    } else if (o == 'l') {
      log = optarg;
    } else if (o == 't') {
      limit = atoi(optarg);
    } else {
      return 2;
    }
  }
  if (argc - optind < 2) return fputs("usage: see the head of stopwatch.c\n", stderr), 2;
  char mode = argv[optind++][0];
  if (!strchr("rle", mode) || (mode == 'r' && !socket_path)) return fputs("stopwatch: bad mode\n", stderr), 2;
  int notify = socket_path ? listen_at(socket_path) : -1;
  int out[2];
  if (pipe2(out, O_CLOEXEC)) fail("make", "a pipe");

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, mode == 'l' ? out[1] : 2, 1);
  uint64_t start = now_ns(), end = 0;
  pid_t child;
  int error = posix_spawnp(&child, argv[optind], &files, NULL, argv + optind, environ);
  if (error) errno = error, fail("spawn", argv[optind]);
  close(out[1]);
  int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
  if (pidfd < 0) fail("open", "a pidfd");

  struct pollfd p[] = {{pidfd, POLLIN, 0}, {notify, POLLIN, 0}, {mode == 'l' ? out[0] : -1, POLLIN, 0}, {0, POLLIN, 0}};
  const char *bad = NULL;
  while (!end && !bad) {
    int n = poll(p, 4, limit * 1000);
    uint64_t now = now_ns();
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) bad = "timed out";
    else if (p[1].revents && drained_ready(notify) && mode == 'r') end = now;
    else if (p[2].revents) {
      char line[256];
      if (read(out[0], line, sizeof line) > 0) end = now;
      else bad = "the command printed nothing";
    } else if (p[0].revents) {
      int status;
      waitpid(child, &status, 0);
      p[0].fd = -1;
      child = 0;
      if (status) bad = "the command failed";
      else if (mode == 'e') end = now;
    } else if (p[3].revents) bad = "interrupted";
  }
  if (bad) printf("failed: %s\n", bad);
  else printf("%llu %llu\n", (unsigned long long)start, (unsigned long long)end);
  fflush(stdout);

  /* Until the caller has seen and stopped what was started. */
  struct pollfd hold[] = {{0, POLLIN, 0}, {notify, POLLIN, 0}};
  char junk[64];
  for (;;) {
    if (poll(hold, 2, -1) < 0 && errno != EINTR) break;
    if (hold[1].revents) drained_ready(notify);
    if (hold[0].revents && read(0, junk, sizeof junk) <= 0) break;
  }
  if (child > 0 && waitpid(child, NULL, WNOHANG) == 0) {
    if (bad) kill(child, SIGTERM);
    waitpid(child, NULL, 0);
  }
  if (socket_path) unlink(socket_path);
  return bad != NULL;
}
