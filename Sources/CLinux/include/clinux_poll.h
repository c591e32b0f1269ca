/* epoll(7), with the descriptor itself as what an event carries, and the number of the watch that it is of. */
#pragma once
#include <stdint.h>

struct clinux_ready {
  int descriptor;
  uint32_t watch;
  uint32_t events;
};

int clinux_poll_make(void);
int clinux_poll_add(int poll, int descriptor, uint32_t watch, uint32_t events);
int clinux_poll_remove(int poll, int descriptor);
/* Up to 256 events; timeout in milliseconds, -1 for none. */
int clinux_poll_wait(int poll, struct clinux_ready *ready, int count, int timeout);

/* ppoll(2): until one of two descriptors can be read (below 0 is none), or the time is over. */
void clinux_poll_either(int one, int other, unsigned microseconds);

/* eventfd(2): can be read from when it is raised until it is cleared. */
int clinux_event_make(void);
void clinux_event_raise(int event);
void clinux_event_clear(int event);
