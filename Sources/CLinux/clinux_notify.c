#define _GNU_SOURCE
#include "clinux_notify.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int clinux_notify_enable(int fd) {
  int one = 1;
  return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ? -errno : 0;
}

static void close_all(const struct cmsghdr *header) {
  size_t size = header->cmsg_len > CMSG_LEN(0) ? header->cmsg_len - CMSG_LEN(0) : 0;
  for (size_t i = 0; i < size / sizeof(int); i++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    close(fd);
  }
}

ssize_t clinux_notify_receive(int fd, void *buffer, size_t size, struct clinux_notify *ret) {
  /* Room for the credentials and nothing else: the kernel puts them first, and lets descriptors go that find no
   * room. Should one get through all the same, it is closed below. */
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct ucred))];
  } control;
  struct iovec vector = {.iov_base = buffer, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};

  memset(ret, 0, sizeof(*ret));
  ssize_t length;
  do
    length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (length < 0 && errno == EINTR);
  if (length < 0)
    return -errno;

  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET)
      continue;
    if (header->cmsg_type == SCM_CREDENTIALS && header->cmsg_len == CMSG_LEN(sizeof(struct ucred))) {
      struct ucred credentials;
      memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
      ret->pid = credentials.pid;
      ret->uid = credentials.uid;
    } else if (header->cmsg_type == SCM_RIGHTS)
      close_all(header);
  }
  ret->truncated = (message.msg_flags & MSG_TRUNC) != 0;
  return length;
}
