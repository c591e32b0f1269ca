/* Signals as bytes in a pipe, for a program that waits with poll(2). */
#pragma once

/*
 * Has each of these signals write its number, one byte, to a pipe, and interrupt whatever call waits.
 * Returns the end to read from, non-blocking and close-on-exec. Once in a process.
 */
int clinux_signal_pipe(const int *signals, int count);
/* Gives each of these signals its default action back, and sends this one to the process itself. */
void clinux_signal_default(const int *signals, int count, int raise);
