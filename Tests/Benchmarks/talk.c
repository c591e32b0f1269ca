/* Both ends of what the network benchmark measures, in one static program that runs in any tree and network namespace.
 *
 *   talk serve PORT                          serves at PORT, and at PORT + 1 only takes connections; with LISTEN_FDS at
 *                                            the socket that was passed. Prints "ready".
 *   talk up|down HOST PORT STREAMS SECONDS   prints bits per second
 *   talk connect HOST PORT TIMES             prints the median time of a connect, in microseconds
 *   talk trip HOST PORT TIMES                prints the median time of a byte there and back, in microseconds
 *
 * iperf3 would do for the rates; but a socket unit of a machine's can hand its socket to this program as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buffer[128 << 10];

/* A client that got stuck ends by itself, wherever it is: seconds beyond those that it was to take. */
enum { PATIENCE = 10 };

static void fail(const char *what) {
  fprintf(stderr, "talk: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* One connection: the first byte says what is wanted. */
static void serve_one(int s) {
  char kind;
  int on = 1;
  if (recv(s, &kind, 1, 0) != 1) return;
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ssize_t n;
  uint64_t count = 0;
  switch (kind) {
  case 'u':
    while ((n = recv(s, buffer, sizeof buffer, 0)) > 0) count += n;
    send(s, &count, sizeof count, MSG_NOSIGNAL);
    break;
  case 'd':
    while (send(s, buffer, sizeof buffer, MSG_NOSIGNAL) > 0) {}
    break;
  case 't':
    while ((n = recv(s, buffer, 1, 0)) == 1 && send(s, buffer, 1, MSG_NOSIGNAL) == 1) {}
    break;
  }
}

static int listen_at(int port) {
  int s = socket(AF_INET6, SOCK_STREAM, 0), on = 1, off = 0;
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 4096) < 0) fail("listen");
  return s;
}

static void serve(int port) {
  int passed = getenv("LISTEN_FDS") != NULL;
  struct pollfd fds[2] = {{.fd = passed ? 3 : listen_at(port), .events = POLLIN}, {.fd = -1, .events = POLLIN}};
  if (!passed) fds[1].fd = listen_at(port + 1);
  signal(SIGCHLD, SIG_IGN);
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (poll(fds, 2, -1) < 0) fail("poll");
    if (fds[1].revents) close(accept(fds[1].fd, NULL, NULL));
    if (!fds[0].revents) continue;
    int s = accept(fds[0].fd, NULL, NULL);
    if (s < 0) continue;
    if (fork() == 0) {
      serve_one(s);
      _exit(0);
    }
    close(s);
  }
}

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  if (inet_pton(AF_INET, argv[0], &a.sin_addr) != 1) fail("the address");
  return a;
}

static int connect_to(const struct sockaddr_in *a) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || connect(s, (const struct sockaddr *)a, sizeof *a) < 0) fail("connect");
  return s;
}

/* What one stream carried per second. */
static double stream(const struct sockaddr_in *a, int up, double seconds) {
  int s = connect_to(a);
  uint64_t count = 0;
  ssize_t n;
  if (send(s, up ? "u" : "d", 1, MSG_NOSIGNAL) != 1) fail("send");
  double begin = now(), end = begin + seconds;
  if (!up) {
    while (now() < end && (n = recv(s, buffer, sizeof buffer, 0)) > 0) count += n;
  } else {
    while (now() < end && send(s, buffer, sizeof buffer, MSG_NOSIGNAL) > 0) {}
    shutdown(s, SHUT_WR);
    /* What counts is what came, and not what was put into queues. */
    if (recv(s, &count, sizeof count, MSG_WAITALL) != sizeof count) fail("recv");
  }
  return count * 8 / (now() - begin);
}

static void streams(char **argv, int up) {
  struct sockaddr_in a = address(argv);
  int number = atoi(argv[2]);
  double *rates = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sum = 0;
  if (rates == MAP_FAILED) fail("mmap");
  for (int i = 0; i < number; i++)
    if (fork() == 0) {
      alarm(PATIENCE + atoi(argv[3]));
      rates[i] = stream(&a, up, atof(argv[3]));
      _exit(0);
    }
  alarm(PATIENCE + atoi(argv[3]));
  for (int status; wait(&status) > 0;)
    if (status != 0) exit(1);
  for (int i = 0; i < number; i++) sum += rates[i];
  printf("%.0f\n", sum);
}

static void times(char **argv, int trip) {
  struct sockaddr_in a = address(argv);
  int number = atoi(argv[2]), on = 1, s = -1;
  double *taken = calloc(number, sizeof *taken);
  alarm(PATIENCE);
  if (trip) {
    s = connect_to(&a);
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (send(s, "t", 1, MSG_NOSIGNAL) != 1) fail("send");
  }
  for (int i = 0; i < number; i++) {
    double begin = now();
    if (trip) {
      if (send(s, "x", 1, MSG_NOSIGNAL) != 1 || recv(s, buffer, 1, 0) != 1) fail("a byte");
    } else {
      s = connect_to(&a);
    }
    taken[i] = (now() - begin) * 1e6;
    if (!trip) close(s);
  }
  qsort(taken, number, sizeof *taken, by_size);
  printf("%.2f\n", taken[number / 2]);
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
  else if (argc == 6 && !strcmp(argv[1], "up")) streams(argv + 2, 1);
  else if (argc == 6 && !strcmp(argv[1], "down")) streams(argv + 2, 0);
  else if (argc == 5 && !strcmp(argv[1], "connect")) times(argv + 2, 0);
  else if (argc == 5 && !strcmp(argv[1], "trip")) times(argv + 2, 1);
  else {
    fputs("usage: talk serve PORT | up|down HOST PORT STREAMS SECONDS | connect|trip HOST PORT TIMES\n", stderr);
    return 2;
  }
  return 0;
}
