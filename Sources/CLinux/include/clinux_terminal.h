/* Pseudo-terminals by descriptor, and what there is to know of a terminal. */
#pragma once
#include <stdbool.h>

/* Unlocks the pty whose controlling side is given and opens its other side (TIOCGPTPEER), which needs no path. */
int clinux_pty_peer(int controller);
/* Columns and rows of a terminal; -1 when it is none. */
int clinux_terminal_size(int descriptor, int *columns, int *rows);
int clinux_set_terminal_size(int descriptor, int columns, int rows);
/* The number of a pty in its instance of devpts (TIOCGPTN), by its controlling side; -1 when it is none. */
int clinux_pty_number(int controller);

/* The session that has a pty as its terminal (TIOCGSID), by its controlling side; -1 when there is none. */
int clinux_pty_session(int controller);

/* epoll(7) on one descriptor, edge-triggered: becomes readable with each change of it. */
int clinux_edge_watch(int descriptor);
/* Whether something changed since the last time; does not wait. */
bool clinux_edge_take(int watch);
