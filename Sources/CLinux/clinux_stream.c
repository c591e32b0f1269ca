#define _GNU_SOURCE
#include "clinux_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Younger than the oldest headers that this is built with. */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

static bool take(int socket, int level, int name, void *value, socklen_t size) {
  socklen_t length = size;
  return getsockopt(socket, level, name, value, &length) == 0 && length == size;
}

static int number(int socket, int level, int name) {
  int value = 0;
  return take(socket, level, name, &value, sizeof value) ? value : 0;
}

uint64_t clinux_socket_namespace(int socket) {
  uint64_t value = 0;
  return take(socket, SOL_SOCKET, SO_NETNS_COOKIE, &value, sizeof value) ? value : 0;
}

/* A filter of its own, which could be read and set but not told from one that is locked. */
bool clinux_stream_has_filter(int socket) {
  socklen_t length = 0;
  return getsockopt(socket, SOL_SOCKET, SO_GET_FILTER, NULL, &length) < 0 || length > 0;
}

int clinux_stream_look(int socket, struct clinux_stream *stream) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } name;
  uint8_t state;
  socklen_t length = sizeof state;
  *stream = (struct clinux_stream){0};
  /* Of the state, which is the first byte of it, only sockets of TCP and MPTCP tell; a raw one has its number, too. */
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &state, &length) < 0) return 0;
  int protocol = number(socket, SOL_SOCKET, SO_PROTOCOL);
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP) return 0;
  length = sizeof name;
  memset(&name, 0, sizeof name);
  if (getsockname(socket, &name.any, &length) < 0) return -1;
  stream->family = name.any.sa_family;
  bool is_internet = stream->family == AF_INET || stream->family == AF_INET6;
  stream->is_tcp = is_internet && protocol == IPPROTO_TCP;
  stream->is_multipath = is_internet && protocol == IPPROTO_MPTCP;
  stream->state = state;
  stream->port = ntohs(stream->family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
  stream->is_bound = stream->family == AF_INET ? name.v4.sin_port || name.v4.sin_addr.s_addr
                                               : name.v6.sin6_port || !IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr);
  return 0;
}

bool clinux_stream_is_special(int socket) {
  return number(socket, SOL_SOCKET, SO_MARK) || number(socket, SOL_SOCKET, SO_BINDTOIFINDEX) ||
         number(socket, IPPROTO_TCP, TCP_REPAIR) || number(socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT) ||
         clinux_stream_has_filter(socket);
}

static const struct {
  int level, name;
} options[] = {
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_ZEROCOPY},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_RECVERR},
    {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_RECVERR},
};

enum { option_count = sizeof options / sizeof *options };

/* What a new socket of a family has, looked up once: asking costs a call for each. */
static const int *initial_options(int family) {
  static struct {
    bool is_known;
    int values[option_count];
  } known[2];
  bool is_six = family == AF_INET6;
  if (!known[is_six].is_known) {
    int fresh = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fresh < 0) return NULL;
    for (int index = 0; index < option_count; index++)
      known[is_six].values[index] = number(fresh, options[index].level, options[index].name);
    close(fresh);
    known[is_six].is_known = true;
  }
  return known[is_six].values;
}

void clinux_stream_copy_options(int from, int to, int family) {
  const int *initial = initial_options(family);
  for (int index = 0; initial && index < option_count; index++) {
    int level = options[index].level, name = options[index].name, value;
    if (level == IPPROTO_IPV6 && family != AF_INET6) continue;
    if (take(from, level, name, &value, sizeof value) && value != initial[index])
      setsockopt(to, level, name, &value, sizeof value);
  }
  struct linger linger;
  if (take(from, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) && linger.l_onoff)
    setsockopt(to, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  const int times[] = {SO_RCVTIMEO, SO_SNDTIMEO};
  for (int index = 0; index < 2; index++) {
    struct timeval time;
    if (take(from, SOL_SOCKET, times[index], &time, sizeof time) && (time.tv_sec || time.tv_usec))
      setsockopt(to, SOL_SOCKET, times[index], &time, sizeof time);
  }
  /* Only what was set: what was not, the kernel fits to the connection. It tells twice of what it was given. */
  int locked = number(from, SOL_SOCKET, SO_BUF_LOCK);
  const int buffers[] = {SO_SNDBUF, SO_RCVBUF};
  for (int index = 0; index < 2; index++) {
    if (!(locked & 1 << index)) continue;
    int size = number(from, SOL_SOCKET, buffers[index]) / 2;
    if (size > 0) setsockopt(to, SOL_SOCKET, buffers[index], &size, sizeof size);
  }
}

int clinux_stream_wait(int socket) {
  int off = 0;
  return ioctl(socket, FIONBIO, &off);
}

int clinux_stream_as_v4(int socket) {
  int family = AF_INET;
  return setsockopt(socket, IPPROTO_IPV6, IPV6_ADDRFORM, &family, sizeof family);
}

int clinux_stream_keep_to(int socket, unsigned interface) {
  int value = (int)interface;
  return setsockopt(socket, SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof value);
}

/* A filter as it grows: loads, each with a comparison that ends with the last statement where it fails. */
struct filter {
  struct sock_filter code[40];
  unsigned short count;
};

static void add(struct filter *filter, uint16_t code, uint32_t value) {
  filter->code[filter->count++] = (struct sock_filter)BPF_STMT(code, value);
}

enum { to_the_end = 255 };

static void compare(struct filter *filter, uint32_t value, uint8_t equal, uint8_t other) {
  filter->code[filter->count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, equal, other);
}

static void must_be(struct filter *filter, uint32_t value) { compare(filter, value, 0, to_the_end); }
static void must_not_be(struct filter *filter, uint32_t value) { compare(filter, value, to_the_end, 0); }

/* The packet begins with TCP's header; IP's has an offset of its own. */
static void must_have_address(struct filter *filter, const uint8_t *address, size_t size, uint32_t offset) {
  add(filter, BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF);
  add(filter, BPF_ALU | BPF_AND | BPF_K, 0xf0);
  must_be(filter, size == 4 ? 0x40 : 0x60);
  for (uint32_t place = 0; place < size; place += 4) {
    uint32_t value;
    memcpy(&value, address + place, 4);
    add(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + offset + place);
    must_be(filter, ntohl(value));
  }
}

/* For good. */
static int set(int socket, struct filter *filter) {
  add(filter, BPF_RET | BPF_K, UINT32_MAX);
  add(filter, BPF_RET | BPF_K, 0);
  for (unsigned short index = 0; index < filter->count; index++) {
    struct sock_filter *one = &filter->code[index];
    if (BPF_CLASS(one->code) != BPF_JMP) continue;
    uint8_t end = (uint8_t)(filter->count - index - 2);
    if (one->jt == to_the_end) one->jt = end;
    if (one->jf == to_the_end) one->jf = end;
  }
  struct sock_fprog program = {.len = filter->count, .filter = filter->code};
  int on = 1;
  if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) return -1;
  return setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on);
}

int clinux_stream_only_from(int socket, const uint8_t *address, size_t size, unsigned port) {
  static bool is_forbidden;
  if (is_forbidden) {
    errno = EPERM;
    return -1;
  }
  struct filter filter = {.count = 0};
  /* The sender's. */
  must_have_address(&filter, address, size, size == 4 ? 12 : 8);
  add(&filter, BPF_LD | BPF_H | BPF_ABS, 0);
  must_be(&filter, port);
  int result = set(socket, &filter);
  is_forbidden = result < 0 && errno == EPERM;
  return result;
}

int clinux_stream_only_listen(int socket) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } name;
  socklen_t length = sizeof name;
  struct filter filter = {.count = 0};
  if (getsockname(socket, &name.any, &length) < 0) return -1;
  bool is_four = name.any.sa_family == AF_INET;
  add(&filter, BPF_LD | BPF_H | BPF_ABS, 2);
  must_be(&filter, ntohs(is_four ? name.v4.sin_port : name.v6.sin6_port));
  if (is_four ? name.v4.sin_addr.s_addr != 0 : !IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr)) {
    bool is_mapped = !is_four && IN6_IS_ADDR_V4MAPPED(&name.v6.sin6_addr);
    const uint8_t *bytes = is_four ? (const uint8_t *)&name.v4.sin_addr : name.v6.sin6_addr.s6_addr + (is_mapped ? 12 : 0);
    size_t size = is_four || is_mapped ? 4 : 16;
    must_have_address(&filter, bytes, size, size == 4 ? 16 : 24);
  }
  /* SYN and ACK together come only to whoever connects, and so does a reset with the number 0. */
  add(&filter, BPF_LD | BPF_B | BPF_ABS, 13);
  add(&filter, BPF_ALU | BPF_AND | BPF_K, 0x12);
  must_not_be(&filter, 0x12);
  add(&filter, BPF_LD | BPF_B | BPF_ABS, 13);
  add(&filter, BPF_ALU | BPF_AND | BPF_K, 0x14);
  compare(&filter, 0x14, 0, 2);
  add(&filter, BPF_LD | BPF_W | BPF_ABS, 4);
  must_not_be(&filter, 0);
  return set(socket, &filter);
}
