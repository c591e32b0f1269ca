#define _GNU_SOURCE
#include "clinux_terminal.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

int clinux_pty_peer(int controller) {
  int unlock = 0;
  if (ioctl(controller, TIOCSPTLCK, &unlock) < 0) return -1;
  return ioctl(controller, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

int clinux_terminal_size(int descriptor, int *columns, int *rows) {
  struct winsize size;
  if (ioctl(descriptor, TIOCGWINSZ, &size) < 0) return -1;
  *columns = size.ws_col;
  *rows = size.ws_row;
  return 0;
}

int clinux_set_terminal_size(int descriptor, int columns, int rows) {
  struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
  return ioctl(descriptor, TIOCSWINSZ, &size);
}

int clinux_pty_session(int controller) {
  int session;
  return ioctl(controller, TIOCGSID, &session) < 0 ? -1 : session;
}

int clinux_pty_number(int controller) {
  unsigned number;
  return ioctl(controller, TIOCGPTN, &number) < 0 ? -1 : (int)number;
}

int clinux_edge_watch(int descriptor) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLET};
  int watch = epoll_create1(EPOLL_CLOEXEC);
  if (watch < 0) return -1;
  if (epoll_ctl(watch, EPOLL_CTL_ADD, descriptor, &event) < 0) {
    close(watch);
    return -1;
  }
  return watch;
}

bool clinux_edge_take(int watch) {
  struct epoll_event event;
  return epoll_wait(watch, &event, 1, 0) > 0;
}
