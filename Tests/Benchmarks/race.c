/* Runs short commands in turn, round after round, and times each: what disturbs the host disturbs all alike. Between
 * two of them is a pause: what one leaves in the kernel, such as a grace period that is not over, is not the next one's.
 *
 *   race [-w] [-p MILLISECONDS] ROUNDS COMMAND… ::: COMMAND… [::: …]
 *
 * "{}" within an argument becomes the round's number. One line per command: its times in microseconds. A command
 * that does not end with status 0 ends the race. One round before the first is run and not counted with -w. The pause is 50 ms
 * without -p.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static struct timespec pause_time = {.tv_nsec = 50000000};

static uint64_t run(char **argv, int round, posix_spawn_file_actions_t *files) {
  char *copy[64] = {0}, number[16];
  snprintf(number, sizeof number, "%d", round);
  for (int i = 0; argv[i] && i < 63; i++) {
    char *hole = strstr(argv[i], "{}");
    if (!hole) copy[i] = strdup(argv[i]);
    else if (asprintf(&copy[i], "%.*s%s%s", (int)(hole - argv[i]), argv[i], number, hole + 2) < 0) exit(1);
  }
  pid_t child;
  int status = 0;
  nanosleep(&pause_time, NULL);
  uint64_t start = now_ns();
  int error = posix_spawnp(&child, copy[0], files, NULL, copy, environ);
  if (error) return fprintf(stderr, "race: spawn %s: %s\n", copy[0], strerror(error)), exit(1), 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  uint64_t end = now_ns();
  if (status) {
    fprintf(stderr, "race: %s %s ended with status 0x%x\n", copy[0], copy[1] ? copy[1] : "", status);
    exit(1);
  }
  for (int i = 0; copy[i]; i++) free(copy[i]);
  return end - start;
}

int main(int argc, char **argv) {
  const char *usage = "usage: race [-w] [-p MILLISECONDS] ROUNDS COMMAND… ::: COMMAND…\n";
  int warm = 0, count = 0, option;
  while ((option = getopt(argc, argv, "+wp:")) >= 0) {
    int pause = option == 'p' ? atoi(optarg) : 0;
    if (option == 'w') warm = 1;
    else if (pause < 1 || pause > 60000) return fputs(usage, stderr), 2;
    else pause_time = (struct timespec){.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000L};
  }
  int rounds = argc > optind + 1 ? atoi(argv[optind]) : 0;
  if (rounds < 1 || rounds > 100000) return fputs(usage, stderr), 2;
  char **commands[16];
  commands[count++] = argv + optind + 1;
  for (int i = optind + 1; i < argc; i++) {
    if (strcmp(argv[i], ":::") != 0) continue;
    argv[i] = NULL;
    if (i + 1 == argc || count == 16) return fputs("race: an empty command, or too many\n", stderr), 2;
    commands[count++] = argv + i + 1;
  }
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  uint64_t *times = calloc((size_t)rounds * (size_t)count, sizeof *times);
  if (!times) return 1;
  for (int round = warm ? 0 : 1; round <= rounds; round++)
    for (int c = 0; c < count; c++) {
      uint64_t took = run(commands[c], round, &files);
      if (round > 0) times[c * rounds + round - 1] = took;
    }
  for (int c = 0; c < count; c++)
    for (int r = 0; r < rounds; r++)
      printf("%.1f%c", (double)times[c * rounds + r] / 1000, r + 1 == rounds ? '\n' : ' ');
  return 0;
}
