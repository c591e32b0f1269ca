import Glibc
import Linux
import Synchronization
import Testing

/// A process 1 that does what no honest one would, as `/etc/mode` in its root says.
enum HostileInit {
  static let compiler = findProgram("cc") ?? findProgram("gcc") ?? findProgram("clang")

  private static let path = Mutex<String?>(nil)

  /// The program, compiled once: static, because its root has no library.
  static func program() throws -> String {
    try path.withLock { path in
      if let path { return path }
      guard let compiler else { throw Complaint("there is no C compiler") }
      let made = "/var/tmp/henge-test-\(getpid())-init"
      try write(source, to: "\(made).c")
      try runWell([compiler, "-O1", "-static", "-w", "-o", made, "\(made).c"])
      unlink("\(made).c")
      path = made
      atexit { unlink("/var/tmp/henge-test-\(getpid())-init") }
      return made
    }
  }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/un.h>
    #include <sys/wait.h>
    #include <unistd.h>

    static int notify = -1;
    static struct sockaddr_un address = {.sun_family = AF_UNIX};
    static char mode[256], *argument = "";

    static void say(const char *text) { sendto(notify, text, strlen(text), 0, (void *)&address, sizeof(address)); }
    static void off(int number) { (void)number; _exit(0); }
    static int is(const char *name) { return !strcmp(mode, name); }

    static void each(void (*make)(const char *)) {
      mkdir("/run/dbus", 0755);
      mkdir("/run/systemd", 0755);
      make("/run/dbus/system_bus_socket");
      make("/run/systemd/private");
    }
    static void make_link(const char *path) { (void)!symlink(argument, path); }
    static void make_fifo(const char *path) { mkfifo(path, 0666); }
    static void make_file(const char *path) { close(open(path, O_CREAT | O_WRONLY, 0666)); }
    static int make_socket(const char *path) {
      struct sockaddr_un bus = {.sun_family = AF_UNIX};
      strcpy(bus.sun_path, path);
      int fd = socket(AF_UNIX, SOCK_STREAM, 0);
      bind(fd, (void *)&bus, sizeof(bus));
      listen(fd, 10);
      return fd;
    }
    /* Accepts and says nonsense without end. */
    static void make_garbage(const char *path) {
      int fd = make_socket(path);
      if (fork() == 0) {
        char junk[4096];
        memset(junk, 'A', sizeof(junk));
        signal(SIGPIPE, SIG_IGN);
        for (;;) {
          int peer = accept(fd, 0, 0);
          for (int i = 0; i < 4096 && write(peer, junk, sizeof(junk)) > 0; i++);
          close(peer);
        }
      }
    }

    int main(void) {
      int file = open("/etc/mode", O_RDONLY);
      ssize_t length = read(file, mode, sizeof(mode) - 1);
      mode[length > 0 ? length : 0] = 0;
      mode[strcspn(mode, "\n")] = 0;
      char *space = strchr(mode, ' ');
      if (space) *space = 0, argument = space + 1;
      close(file);
      const char *path = getenv("NOTIFY_SOCKET");
      if (path) {
        strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
        notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      }
      signal(SIGRTMIN + 4, off);
      signal(SIGTERM, off);
      char text[128];

      if (is("exit")) return atoi(argument);
      if (is("crash")) *(volatile int *)8 = 1;
      if (is("escape-exit")) {
        printf("\033[31mred\033]0;owned\007 \xe2\x80\xae end\n");
        return 7;
      }
      if (is("never")) for (;;) pause();
      if (is("flood-children")) {
        for (int child = 0; child < 4; child++)
          if (fork() == 0) {
            for (int i = 0; i < 25000; i++) say("READY=1\nSTATUS=a child's");
            _exit(0);
          }
        while (wait(0) > 0);
        say("STATUS=honest");
        for (;;) pause();
      }
      if (is("flood")) for (int i = 0; i < 100000; i++) snprintf(text, sizeof(text), "STATUS=number %d", i), say(text);
      if (is("flood-for-ever")) {
        say("READY=1");
        for (int i = 0;; i++) snprintf(text, sizeof(text), "X_SYSTEMD_UNIT_ACTIVE=u%d\nSTATUS=%d", i, i), say(text);
      }
      if (is("escape")) say("STATUS=\033[31mred\033]0;owned\007 \x9b" "31m \xe2\x80\xae \xff\xfe");
      if (is("large")) {
        char *big = calloc(1, 150001);
        memset(big, 'x', 150000);
        memcpy(big, "STATUS=", 7);
        say(big);
      }
      if (is("link")) each(make_link);
      if (is("fifo")) each(make_fifo);
      if (is("file")) each(make_file);
      if (is("garbage")) each(make_garbage);
      if (is("deaf")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, 0);
      }
      say("READY=1");
      for (;;) pause();
    }
    """#
}

extension Trait where Self == ConditionTrait {
  /// For tests whose machines run an init of their own.
  static var needsCompiler: Self { .enabled(if: HostileInit.compiler != nil, "needs a C compiler") }
}
