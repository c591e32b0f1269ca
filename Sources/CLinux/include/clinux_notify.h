#pragma once
#include <stddef.h>
#include <sys/types.h>

/* One datagram on a notify socket. In C, because SCM_CREDENTIALS is read with macros. */

struct clinux_notify {
  pid_t pid;     /* the sender, as the kernel attests it; 0 if it does not */
  uid_t uid;     /* the sender's user */
  int truncated; /* the datagram was longer than the buffer */
};

/* Receives one datagram without waiting, and closes every descriptor that came with it.
 * Returns its length in the buffer, or a negative errno: -EAGAIN when there is none. */
ssize_t clinux_notify_receive(int fd, void *buffer, size_t size, struct clinux_notify *ret);

/* Has the kernel attest the sender of each datagram that is sent from now on. Returns 0 or a negative errno. */
int clinux_notify_enable(int fd);
