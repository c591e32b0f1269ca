/* A bare launcher: the least that brings a stock Debian to `running` in a user namespace, the mark that henge is held
 * against. It keeps no state, masks nothing, checks nothing; it is a yardstick and no container manager.
 *
 *   bare ROOT BASE           boot ROOT, whose files belong to the range BASE…BASE+65535, kill it once it is ready
 *   bare --check ROOT BASE   the same, and ask the guest's systemctl between ready and the kill; not to be timed
 *   bare --hold ROOT BASE    the same, and keep it until SIGTERM
 *
 * One line on stdout, in microseconds since main(): "exec N ready N", printed at the moment of ready.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RANGE 65536U
#define READY_LIMIT_MS 60000

struct launch {
  const char *root;
  unsigned base;
  char cgroup[512];  /* ours, removed at the end */
  char payload[560]; /* the machine's */
  char console[64];  /* the pty's slave on the host */
  int master, notify, go[2], failed[2];
};

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

static void complain(const char *what, const char *path) {
  fprintf(stderr, "bare: %s %s: %s\n", what, path, strerror(errno));
}

/* ---- the host's side before the clone ---- */

/* The cgroup that we are in, as a path below whatever place the host mounted cgroup2 at. */
static int own_cgroup(char *out, size_t size) {
  char line[1024], type[32], where[256] = "", below[512] = "";
  FILE *f = fopen("/proc/self/mounts", "re");
  if (!f) return -1;
  while (fgets(line, sizeof line, f)) {
    char path[256];
    if (sscanf(line, "%*s %255s %31s", path, type) == 2 && strcmp(type, "cgroup2") == 0) strcpy(where, path);
  }
  fclose(f);
  f = fopen("/proc/self/cgroup", "re");
  if (!f) return -1;
  while (fgets(line, sizeof line, f))
    if (strncmp(line, "0::", 3) == 0) sscanf(line + 3, "%511s", below);
  fclose(f);
  if (!where[0] || !below[0]) return errno = ENOENT, -1;
  return snprintf(out, size, "%s%s", where, strcmp(below, "/") == 0 ? "" : below) < (int)size ? 0 : -1;
}

static int make_cgroup(struct launch *l) {
  char own[400], file[700], name[64];
  if (own_cgroup(own, sizeof own)) return complain("find", "a cgroup2 mount"), -1;
  snprintf(l->cgroup, sizeof l->cgroup, "%s/henge-bare-%d", own, (int)getpid());
  snprintf(l->payload, sizeof l->payload, "%s/payload", l->cgroup);
  if (mkdir(l->cgroup, 0755) || mkdir(l->payload, 0755)) return complain("make", l->payload), -1;
  if (chown(l->payload, l->base, l->base)) return complain("give away", l->payload), -1;
  FILE *f = fopen("/sys/kernel/cgroup/delegate", "re");
  if (!f) return complain("open", "/sys/kernel/cgroup/delegate"), -1;
  while (fscanf(f, "%63s", name) == 1) {
    snprintf(file, sizeof file, "%s/%s", l->payload, name);
    /* The list names files of controllers that this cgroup may not have. */
    if (chown(file, l->base, l->base) && errno != ENOENT) return fclose(f), complain("give away", file), -1;
  }
  fclose(f);
  return 0;
}

static void remove_cgroup(const char *path) {
  DIR *d = opendir(path);
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_type != DT_DIR || e->d_name[0] == '.') continue;
    char child[4096];
    if (snprintf(child, sizeof child, "%s/%s", path, e->d_name) < (int)sizeof child) remove_cgroup(child);
  }
  closedir(d);
  if (rmdir(path)) complain("remove", path);
}

static int make_console(struct launch *l) {
  l->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (l->master < 0 || grantpt(l->master) || unlockpt(l->master)) return complain("open", "/dev/ptmx"), -1;
  if (ptsname_r(l->master, l->console, sizeof l->console)) return complain("name", "the pty"), -1;
  return chown(l->console, l->base, l->base) ? complain("give away", l->console), -1 : 0;
}

/* ---- the machine's side: stack only, the first failure goes to the parent in one line ---- */

static int report_fd;

static void die(const char *what, const char *path) {
  dprintf(report_fd, "%s %s: %s", what, path, strerror(errno));
  _exit(1);
}

static void mounted(const char *type, const char *where, unsigned long flags, const char *data) {
  if (mkdir(where, 0755) && errno != EEXIST) die("make", where);
  if (mount(type, where, type, flags, data)) die("mount", where);
}

static void bound(const char *from, const char *to) {
  int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) die("make", to);
  close(fd);
  if (mount(from, to, NULL, MS_BIND, NULL)) die("bind", to);
}

static void build_tree(const struct launch *l) {
  static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("make private", "/");
  if (mount(l->root, l->root, NULL, MS_BIND | MS_REC, NULL)) die("bind", l->root);
  if (chdir(l->root)) die("enter", l->root);
  /* Before pivot_root: the kernel gives out a new proc and sysfs only to who already sees a whole one. */
  mounted("proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mounted("sysfs", "sys", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
  mounted("cgroup2", "sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mounted("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755");
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
    char from[32], to[32];
    snprintf(from, sizeof from, "/dev/%s", nodes[i]);
    snprintf(to, sizeof to, "dev/%s", nodes[i]);
    bound(from, to);
  }
  mounted("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5");
  if (symlink("pts/ptmx", "dev/ptmx")) die("link", "dev/ptmx");
  bound(l->console, "dev/console");
  mounted("tmpfs", "run", MS_NOSUID | MS_NODEV, "mode=755");
  if (mkdir("run/host", 0755)) die("make", "run/host");
  /* The host's end of the socket was made before the clone; its name exists only in here. */
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "run/host/notify"};
  if (bind(l->notify, (struct sockaddr *)&name, sizeof name)) die("bind", name.sun_path);
  if (chmod(name.sun_path, 0666)) die("open up", name.sun_path);
}

static void run_init(const struct launch *l) {
  static const int dropped[] = {CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_AUDIT_CONTROL, CAP_AUDIT_READ};
  char go;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (read(l->go[0], &go, 1) != 1) _exit(1);
  if (setgroups(0, NULL) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) die("become", "root");
  /* Not a flag of clone3: there it would take the parent's cgroup for the namespace's root. */
  if (unshare(CLONE_NEWCGROUP)) die("unshare", "cgroup");
  build_tree(l);
  if (syscall(SYS_pivot_root, ".", ".")) die("pivot_root", l->root);
  if (umount2(".", MNT_DETACH)) die("detach", "the host's root");
  if (chdir("/")) die("enter", "/");
  if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL)) die("make shared", "/");
  if (sethostname("bare", 4)) die("set", "hostname");
  for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
    if (prctl(PR_CAPBSET_DROP, dropped[i])) die("drop", "a capability");
  setsid();
  int tty = open("/dev/console", O_RDWR);
  if (tty < 0 || ioctl(tty, TIOCSCTTY, 0)) die("take", "/dev/console");
  for (int fd = 0; fd < 3; fd++) dup2(tty, fd);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  syscall(SYS_close_range, 3U, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */);
  char *argv[] = {"/sbin/init", NULL};
  char *envp[] = {"container=henge-bare", "NOTIFY_SOCKET=/run/host/notify", "TERM=dumb", NULL};
  execve(argv[0], argv, envp);
  die("execute", "/sbin/init");
}

/* ---- the host's side after the clone ---- */

static int put(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
  if (fd >= 0) close(fd);
  return n == (ssize_t)strlen(text) ? 0 : (complain("write", path), -1);
}

static int write_maps(pid_t pid, unsigned base) {
  char path[64], map[64];
  snprintf(map, sizeof map, "0 %u %u\n", base, RANGE);
  snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
  if (put(path, map)) return -1;
  snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
  return put(path, map);
}

/* 1 once the line READY=1 came; every waiting datagram is taken, since a full queue would stop PID 1. */
static int drain_notify(int fd) {
  char text[4096];
  int ready = 0;
  for (ssize_t n; (n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT)) > 0;) {
    text[n] = 0;
    char *at = strstr(text, "READY=1");
    if (at && (at == text || at[-1] == '\n')) ready = 1;
  }
  return ready;
}

/* Drives the machine until it is ready, or once it is (`hold`) until a signal; 0 when that came. */
static int drive(struct launch *l, int pidfd, int signals, int hold, uint64_t start, uint64_t *exec, uint64_t *ready) {
  char junk[4096];
  struct pollfd p[] = {{l->failed[0], POLLIN, 0}, {l->master, POLLIN, 0}, {l->notify, POLLIN, 0}, {pidfd, POLLIN, 0},
                       {signals, POLLIN, 0}};
  for (;;) {
    int n = poll(p, 5, hold ? -1 : READY_LIMIT_MS);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fprintf(stderr, "bare: not ready within %d s\n", READY_LIMIT_MS / 1000), -1;
    if (p[0].revents) {
      ssize_t got = read(l->failed[0], junk, sizeof junk - 1);
      if (got > 0) return fprintf(stderr, "bare: %.*s\n", (int)got, junk), -1;
      *exec = now_us() - start; /* the end of the close-on-exec pipe */
      p[0].fd = -1;
    }
    if (p[1].revents) {
      ssize_t got = read(l->master, junk, sizeof junk);
      if (got > 0 && getenv("BARE_CONSOLE")) (void)!write(STDERR_FILENO, junk, (size_t)got);
      /* With every slave closed the master only ever says EIO: systemd reopens its console whenever it needs it. */
      if (got < 0 && errno == EIO) p[1].fd = -1;
    }
    if (p[2].revents && drain_notify(l->notify) && !hold) return *ready = now_us() - start, 0;
    if (p[3].revents) return fputs("bare: PID 1 ended by itself\n", stderr), -1;
    if (p[4].revents) return hold ? 0 : (fputs("bare: interrupted\n", stderr), -1);
  }
}

static void ask_guest(pid_t pid) {
  char target[16];
  snprintf(target, sizeof target, "%d", (int)pid);
  static char *const questions[] = {"is-system-running", "--failed"};
  for (int i = 0; i < 2; i++) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      execlp("nsenter", "nsenter", "-t", target, "-U", "-m", "-p", "-n", "-u", "-i", "-C", "--", "systemctl",
             "--no-pager", "--plain", "--no-legend", questions[i], NULL);
      _exit(127);
    }
    if (child > 0) waitpid(child, NULL, 0);
  }
}

int main(int argc, char **argv) {
  uint64_t start = now_us(), exec = 0, ready = 0;
  int check = argc == 4 && strcmp(argv[1], "--check") == 0, hold = argc == 4 && strcmp(argv[1], "--hold") == 0;
  struct launch l = {.notify = -1};
  if (argc != 3 + (check || hold)) return fputs("usage: bare [--check | --hold] ROOT BASE\n", stderr), 2;
  l.root = argv[argc - 2];
  l.base = (unsigned)strtoul(argv[argc - 1], NULL, 10);
  if (l.root[0] != '/' || l.base == 0) return fputs("bare: ROOT is absolute, BASE a number above 0\n", stderr), 2;

  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  int signals = signalfd(-1, &ends, SFD_CLOEXEC);

  int status = 1, pidfd = -1;
  pid_t pid = -1;
  l.notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (signals < 0 || l.notify < 0 || pipe2(l.go, O_CLOEXEC) || pipe2(l.failed, O_CLOEXEC))
    return complain("make", "descriptors"), 1;
  if (make_console(&l)) return 1;
  if (make_cgroup(&l)) goto out;
  int cgroup = open(l.payload, O_PATH | O_DIRECTORY | O_CLOEXEC);
  struct clone_args args = {
      .flags = CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS |
               CLONE_NEWIPC | CLONE_NEWNET,
      .pidfd = (uint64_t)(uintptr_t)&pidfd,
      .exit_signal = SIGCHLD,
      .cgroup = (uint64_t)cgroup,
  };
  pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) complain("clone3 into", l.payload);
  if (pid == 0) {
    report_fd = l.failed[1];
    close(l.failed[0]);
    close(l.go[1]);
    run_init(&l);
  }
  close(l.failed[1]);
  if (pid > 0 && write_maps(pid, l.base) == 0 && write(l.go[1], "1", 1) == 1 &&
      drive(&l, pidfd, signals, 0, start, &exec, &ready) == 0) {
    printf("exec %llu ready %llu\n", (unsigned long long)exec, (unsigned long long)ready);
    fflush(stdout);
    if (check) ask_guest(pid);
    status = hold && drive(&l, pidfd, signals, 1, start, &exec, &ready) ? 1 : 0;
  }
out:
  if (pid > 0) {
    char kill_file[640];
    snprintf(kill_file, sizeof kill_file, "%s/cgroup.kill", l.cgroup);
    put(kill_file, "1");
    waitpid(pid, NULL, 0); /* a PID namespace's init ends last, so nothing of the machine is alive after this */
  }
  if (l.cgroup[0]) remove_cgroup(l.cgroup);
  return status;
}
