#ifndef CLINUX_TIMER_H
#define CLINUX_TIMER_H

#include <stdint.h>

/* A descriptor that becomes readable each time so many microseconds of the monotonic clock have gone by. */
int clinux_timer_create(uint64_t microseconds);

/* Waits for a timer, and for input unless that descriptor is -1. Returns 1 for the timer, which is read, 2 for input,
 * 0 when a signal came first. */
int clinux_timer_wait(int timer, int input);

#endif
