#define _GNU_SOURCE
#include "clinux_poll.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

int clinux_poll_make(void) { return epoll_create1(EPOLL_CLOEXEC); }

int clinux_poll_add(int poll, int descriptor, uint32_t watch, uint32_t events) {
  struct epoll_event event = {.events = events, .data = {.u64 = (uint64_t)watch << 32 | (uint32_t)descriptor}};
  return epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
}

int clinux_poll_remove(int poll, int descriptor) { return epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, 0); }

int clinux_poll_wait(int poll, struct clinux_ready *ready, int count, int timeout) {
  struct epoll_event events[256];
  int result = epoll_wait(poll, events, count < 256 ? count : 256, timeout);
  for (int index = 0; index < result; index++)
    ready[index] = (struct clinux_ready){.descriptor = (int)(uint32_t)events[index].data.u64,
                                         .watch = (uint32_t)(events[index].data.u64 >> 32),
                                         .events = events[index].events};
  return result;
}

void clinux_poll_either(int one, int other, unsigned microseconds) {
  struct pollfd entries[2] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
  struct timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000L};
  ppoll(entries, 2, &time, 0);
}

int clinux_event_make(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void clinux_event_raise(int event) { eventfd_write(event, 1); }

void clinux_event_clear(int event) {
  eventfd_t count;
  eventfd_read(event, &count);
}
