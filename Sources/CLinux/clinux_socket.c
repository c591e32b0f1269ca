#define _GNU_SOURCE
#include "clinux_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int clinux_socketpair(bool packets, int pair[2]) {
  return socketpair(AF_UNIX, (packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, pair);
}

int clinux_unix_socket(bool datagram) {
  return socket(AF_UNIX, (datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
}

static int address_of(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (length >= sizeof address->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address->sun_path, path, length + 1);
  return 0;
}

int clinux_unix_bind(int socket, const char *path) {
  struct sockaddr_un address;
  if (address_of(path, &address) < 0) return -1;
  return bind(socket, (struct sockaddr *)&address, sizeof address);
}

int clinux_unix_connect(int socket, const char *path) {
  struct sockaddr_un address;
  int result;
  if (address_of(path, &address) < 0) return -1;
  do result = connect(socket, (struct sockaddr *)&address, sizeof address);
  while (result < 0 && errno == EINTR);
  return result;
}

int clinux_listen(int socket, int backlog) { return listen(socket, backlog); }

int clinux_accept(int socket) { return accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int clinux_set_nonblocking(int descriptor, bool nonblocking) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0) return -1;
  return fcntl(descriptor, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int clinux_peer_credentials(int socket, int *process, unsigned *uid) {
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0) return -1;
  *process = credentials.pid;
  *uid = credentials.uid;
  return 0;
}

ssize_t clinux_send(int socket, const void *bytes, size_t size, int descriptor) {
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {{0}};
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (descriptor >= 0) {
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  ssize_t result;
  do result = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}

ssize_t clinux_receive(int socket, void *bytes, size_t size, int *descriptor) {
  union {
    char space[CMSG_SPACE(sizeof(int) * 16)];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  *descriptor = -1;
  ssize_t result;
  do result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (result < 0 && errno == EINTR);
  if (result < 0) return result;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; index++) {
      int received;
      memcpy(&received, CMSG_DATA(header) + index * sizeof received, sizeof received);
      if (*descriptor < 0) *descriptor = received;
      else close(received);
    }
  }
  return result;
}

ssize_t clinux_stream_send(int socket, const void *bytes, size_t size, const int *descriptors, int count) {
  union {
    char space[CMSG_SPACE(sizeof(int) * clinux_stream_descriptors)];
    struct cmsghdr align;
  } control = {{0}};
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > clinux_stream_descriptors) {
    errno = E2BIG;
    return -1;
  }
  if (count > 0) {
    size_t length = sizeof(int) * (size_t)count;
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), descriptors, length);
  }
  ssize_t result;
  do result = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  return result;
}

ssize_t clinux_stream_receive(int socket, void *bytes, size_t size, int *descriptors, int capacity, int *count) {
  union {
    char space[CMSG_SPACE(sizeof(int) * clinux_stream_descriptors)];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  *count = 0;
  ssize_t result;
  do result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  if (result < 0) return result;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t length = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < length; index++) {
      int received;
      memcpy(&received, CMSG_DATA(header) + index * sizeof received, sizeof received);
      if (*count < capacity) descriptors[(*count)++] = received;
      else close(received);
    }
  }
  return result;
}
