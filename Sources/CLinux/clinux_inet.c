#define _GNU_SOURCE
#include "clinux_inet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static socklen_t fill(union address *result, const uint8_t *address, size_t size, unsigned port) {
  memset(result, 0, sizeof *result);
  if (size == 4) {
    result->v4.sin_family = AF_INET;
    result->v4.sin_port = htons((uint16_t)port);
    memcpy(&result->v4.sin_addr, address, 4);
    return sizeof result->v4;
  }
  result->v6.sin6_family = AF_INET6;
  result->v6.sin6_port = htons((uint16_t)port);
  memcpy(&result->v6.sin6_addr, address, 16);
  return sizeof result->v6;
}

int clinux_inet_socket(size_t size, bool datagrams) {
  return socket(size == 4 ? AF_INET : AF_INET6, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0);
}

int clinux_inet_bind(int socket, const uint8_t *address, size_t size, unsigned port, bool both) {
  union address name;
  socklen_t length = fill(&name, address, size, port);
  int on = 1, only = !both, type = 0;
  socklen_t type_size = sizeof type;
  if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0) return -1;
  if (type == SOCK_STREAM && setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) return -1;
  if (size == 16 && setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0) return -1;
  return bind(socket, &name.any, length);
}

int clinux_inet_connect(int socket, const uint8_t *address, size_t size, unsigned port) {
  union address name;
  socklen_t length = fill(&name, address, size, port);
  int result;
  do result = connect(socket, &name.any, length);
  while (result < 0 && errno == EINTR);
  return result;
}

int clinux_inet_error(int socket) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) < 0) return errno;
  return error;
}

int clinux_inet_no_delay(int socket) {
  int on = 1;
  return setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool clinux_inet_is_near(int socket, unsigned microseconds) {
  struct tcp_info info;
  socklen_t size = sizeof info;
  memset(&info, 0, sizeof info);
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) return false;
  return info.tcpi_rtt > 0 && info.tcpi_rtt <= microseconds;
}

void clinux_inet_bound(int socket, int size) {
  /* The kernel takes twice as much, for what it needs itself. */
  setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Who is at the other end. */
static void tell(const union address *name, struct clinux_inet_peer *peer) {
  memset(peer, 0, sizeof *peer);
  if (name->any.sa_family == AF_INET) {
    memcpy(peer->address, &name->v4.sin_addr, 4);
    peer->port = ntohs(name->v4.sin_port);
  } else {
    memcpy(peer->address, &name->v6.sin6_addr, 16);
    peer->port = ntohs(name->v6.sin6_port);
    peer->scope = name->v6.sin6_scope_id;
    peer->is_v6 = 1;
    peer->is_mapped = IN6_IS_ADDR_V4MAPPED(&name->v6.sin6_addr);
  }
}

int clinux_inet_accept(int socket, struct clinux_inet_peer *peer) {
  union address name;
  socklen_t length = sizeof name;
  int result = accept4(socket, &name.any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (result >= 0) tell(&name, peer);
  return result;
}

static void wake(int number) { (void)number; }

int clinux_inet_accept_now(int socket, bool waits, struct clinux_inet_peer *peer) {
  static bool has_handler;
  struct pollfd state = {.fd = socket, .events = POLLIN};
  if (poll(&state, 1, 0) != 1 || !(state.revents & POLLIN)) {
    errno = EAGAIN;
    return -1;
  }
  if (!has_handler) {
    const struct sigaction action = {.sa_handler = wake};
    if (sigaction(SIGALRM, &action, NULL) < 0) return -1;
    has_handler = true;
  }
  /*
   * Somebody else may take it first, and whether this call waits is for those to say who have the socket, at any moment.
   * There is no flag for that: a signal ends it.
   */
  const struct itimerval soon = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
  if (setitimer(ITIMER_REAL, &soon, NULL) < 0) return -1;
  union address name;
  socklen_t length = sizeof name;
  int result = accept4(socket, &name.any, &length, SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK));
  int error = errno;
  setitimer(ITIMER_REAL, &never, NULL);
  if (result >= 0) tell(&name, peer);
  errno = error;
  return result;
}

size_t clinux_inet_written(const struct clinux_inet_peer *peer, bool as_v4, void *bytes) {
  union address name;
  /* One of IPv4 in the form of IPv6 ends with it. */
  if (as_v4) {
    socklen_t length = fill(&name, peer->address + (peer->is_v6 ? 12 : 0), 4, peer->port);
    memcpy(bytes, &name, length);
    return length;
  }
  socklen_t length = fill(&name, peer->address, 16, peer->port);
  name.v6.sin6_scope_id = peer->scope;
  memcpy(bytes, &name, length);
  return length;
}

int clinux_inet_take_port(int socket, const uint8_t *address, size_t size) {
  union address name;
  socklen_t length = fill(&name, address, size, 0);
  if (bind(socket, &name.any, length) < 0 || getsockname(socket, &name.any, &length) < 0) return -1;
  return ntohs(name.any.sa_family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
}

ssize_t clinux_inet_peek(int socket, void *bytes, size_t size) {
  return recv(socket, bytes, size, MSG_PEEK | MSG_DONTWAIT);
}

ssize_t clinux_inet_send(int socket, const void *bytes, size_t size) {
  return send(socket, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* TCP drops what is received with MSG_TRUNC: nothing is copied. */
ssize_t clinux_inet_drop(int socket, size_t size) { return recv(socket, NULL, size, MSG_TRUNC | MSG_DONTWAIT); }

void clinux_inet_keep_alive(int socket) {
  int on = 1;
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void clinux_inet_bound_sent(int socket, int size) { setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); }

bool clinux_inet_lingers(int socket) {
  struct linger linger;
  socklen_t size = sizeof linger;
  return getsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff && linger.l_linger;
}

void clinux_inet_linger_no_more(int socket) {
  const struct linger linger = {.l_onoff = 0};
  setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void clinux_inet_plain(int socket) {
  const struct timeval never = {0, 0};
  int one = 1, off = 0;
  clinux_inet_linger_no_more(socket);
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never);
  setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
  setsockopt(socket, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
}

void clinux_inet_reset_when_closed(int socket) {
  const struct linger linger = {.l_onoff = 1};
  setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

int clinux_inet_tell_local(int socket) {
  int on = 1, domain = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0) return -1;
  if (domain == AF_INET) return setsockopt(socket, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  return setsockopt(socket, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

ssize_t clinux_inet_receive_from(int socket, void *bytes, size_t size, struct clinux_inet_peer *peer) {
  union address name;
  union {
    char space[256];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = size};
  struct msghdr message = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &vector, .msg_iovlen = 1,
                           .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t result;
  do result = recvmsg(socket, &message, MSG_DONTWAIT);
  while (result < 0 && errno == EINTR);
  if (result < 0) return result;
  tell(&name, peer);
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo info;
      memcpy(&info, CMSG_DATA(header), sizeof info);
      memcpy(peer->local, &info.ipi_addr, 4);
    } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
      struct in6_pktinfo info;
      memcpy(&info, CMSG_DATA(header), sizeof info);
      memcpy(peer->local, &info.ipi6_addr, 16);
    }
  }
  return result;
}

ssize_t clinux_inet_send_to(int socket, const void *bytes, size_t size, const struct clinux_inet_peer *peer) {
  union address name;
  union {
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct cmsghdr align;
  } control = {{0}};
  socklen_t length = fill(&name, peer->address, peer->is_v6 ? 16 : 4, peer->port);
  if (peer->is_v6) name.v6.sin6_scope_id = peer->scope;
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = size};
  struct msghdr message = {.msg_name = &name, .msg_namelen = length, .msg_iov = &vector, .msg_iovlen = 1,
                           .msg_control = control.space};
  message.msg_controllen = peer->is_v6 ? CMSG_SPACE(sizeof(struct in6_pktinfo)) : CMSG_SPACE(sizeof(struct in_pktinfo));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (peer->is_v6) {
    struct in6_pktinfo info = {.ipi6_ifindex = peer->scope};
    memcpy(&info.ipi6_addr, peer->local, 16);
    header->cmsg_level = IPPROTO_IPV6;
    header->cmsg_type = IPV6_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof info);
    memcpy(CMSG_DATA(header), &info, sizeof info);
  } else {
    struct in_pktinfo info = {0};
    memcpy(&info.ipi_spec_dst, peer->local, 4);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof info);
    memcpy(CMSG_DATA(header), &info, sizeof info);
  }
  ssize_t result;
  do result = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (result < 0 && errno == EINTR);
  return result;
}

long clinux_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
  return limit.rlim_cur > 1 << 20 ? 1 << 20 : (long)limit.rlim_cur;
}

void *clinux_map_shared(int file, size_t size) {
  void *result = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return result == MAP_FAILED ? NULL : result;
}

uint64_t clinux_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

bool clinux_change(uint64_t *word, uint64_t old, uint64_t new) {
  return __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void clinux_add(uint64_t *sum, uint64_t amount) { __atomic_fetch_add(sum, amount, __ATOMIC_RELAXED); }
