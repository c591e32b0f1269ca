#define _GNU_SOURCE
#include "clinux_timer.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

int clinux_timer_create(uint64_t microseconds) {
  struct timespec interval = {
      .tv_sec = (time_t)(microseconds / 1000000), .tv_nsec = (long)(microseconds % 1000000) * 1000};
  struct itimerspec times = {.it_value = interval, .it_interval = interval};
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer < 0 || timerfd_settime(timer, 0, &times, NULL) == 0) return timer;
  int number = errno;
  close(timer);
  errno = number;
  return -1;
}

int clinux_timer_wait(int timer, int input) {
  struct pollfd polls[] = {{.fd = timer, .events = POLLIN}, {.fd = input, .events = POLLIN}};
  if (poll(polls, 2, -1) < 0) return errno == EINTR ? 0 : -1;
  if (polls[1].revents) return 2;
  uint64_t count;
  return read(timer, &count, sizeof count) < 0 && errno != EAGAIN ? -1 : 1;
}
