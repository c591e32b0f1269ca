#define _GNU_SOURCE
#include "clinux_signal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static int report = -1;

static void tell(int signal) {
  int error = errno;
  unsigned char byte = (unsigned char)signal;
  /* A pipe that is full has enough to read already. */
  if (write(report, &byte, 1) < 0) errno = error;
  errno = error;
}

int clinux_signal_pipe(const int *signals, int count) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return -1;
  report = ends[1];
  /* Without SA_RESTART: a write to a terminal that takes nothing must not hold the end up. */
  struct sigaction action = {.sa_handler = tell};
  for (int index = 0; index < count; index++) sigaction(signals[index], &action, NULL);
  return ends[0];
}

void clinux_signal_default(const int *signals, int count, int raise_signal) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  for (int index = 0; index < count; index++) sigaction(signals[index], &action, NULL);
  if (raise_signal) raise(raise_signal);
}
