#define _GNU_SOURCE
#include "clinux_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
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
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

int clinux_route_socket(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE); }

struct question {
  struct nlmsghdr header;
  struct rtmsg route;
  char room[32];
};

struct reply {
  struct nlmsghdr header;
  union {
    struct nlmsgerr error;
    struct rtmsg route;
    char room[2048];
  };
};

/* The kernel has answered when send returns. Returns the size of the answer's attributes, which follow its body. */
static int ask(int socket, struct question *question, unsigned short type, size_t body, struct reply *reply) {
  static uint32_t number;
  question->header.nlmsg_flags = NLM_F_REQUEST;
  question->header.nlmsg_seq = ++number;
  if (send(socket, question, question->header.nlmsg_len, 0) < 0) return -1;
  /* What is left of an answer that nobody waited for is passed over. */
  for (;;) {
    ssize_t size = recv(socket, reply, sizeof *reply, MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return -1;
    if (size < (ssize_t)sizeof reply->header || reply->header.nlmsg_seq != number) continue;
    if (reply->header.nlmsg_type == NLMSG_ERROR && size >= (ssize_t)NLMSG_LENGTH(sizeof reply->error)) {
      errno = -reply->error.error;
      return -1;
    }
    if (reply->header.nlmsg_type != type || size < (ssize_t)NLMSG_SPACE(body)) {
      errno = EBADMSG;
      return -1;
    }
    return (int)(size - (ssize_t)NLMSG_SPACE(body));
  }
}

int clinux_route_find(int route_socket, const uint8_t *address, size_t size, struct clinux_route *route) {
  struct question question = {
      .header = {.nlmsg_type = RTM_GETROUTE},
      .route = {.rtm_family = size == 4 ? AF_INET : AF_INET6, .rtm_dst_len = (unsigned char)(size * 8)},
  };
  struct rtattr *attribute = (struct rtattr *)((char *)&question + NLMSG_SPACE(sizeof question.route));
  attribute->rta_type = RTA_DST;
  attribute->rta_len = (unsigned short)RTA_LENGTH(size);
  memcpy(RTA_DATA(attribute), address, size);
  question.header.nlmsg_len = (unsigned)(NLMSG_SPACE(sizeof question.route) + RTA_SPACE(size));
  struct reply reply;
  int left = ask(route_socket, &question, RTM_NEWROUTE, sizeof reply.route, &reply);
  if (left < 0) return -1;
  *route = (struct clinux_route){.is_unicast = reply.route.rtm_type == RTN_UNICAST};
  for (struct rtattr *one = (struct rtattr *)((char *)&reply + NLMSG_SPACE(sizeof reply.route)); RTA_OK(one, left);
       one = RTA_NEXT(one, left)) {
    if (one->rta_type == RTA_OIF && RTA_PAYLOAD(one) >= 4) memcpy(&route->interface, RTA_DATA(one), 4);
    if (one->rta_type == RTA_GATEWAY || one->rta_type == RTA_VIA) route->has_gateway = true;
  }
  return 0;
}

bool clinux_route_is_named(int route_socket, unsigned interface, const char *name) {
  struct ifreq request = {.ifr_ifindex = (int)interface};
  return ioctl(route_socket, SIOCGIFNAME, &request) == 0 && !strncmp(request.ifr_name, name, sizeof request.ifr_name);
}

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

static bool is_bound(int socket) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } name;
  socklen_t length = sizeof name;
  memset(&name, 0, sizeof name);
  if (getsockname(socket, &name.any, &length) < 0) return true;
  if (name.any.sa_family == AF_INET) return name.v4.sin_port || name.v4.sin_addr.s_addr;
  return name.v6.sin6_port || !IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr);
}

/* A filter of its own, which could be read and set but not told from one that is locked. */
static bool has_filter(int socket) {
  socklen_t length = 0;
  return getsockopt(socket, SOL_SOCKET, SO_GET_FILTER, NULL, &length) < 0 || length > 0;
}

int clinux_stream_look(int socket, struct clinux_stream *stream) {
  *stream = (struct clinux_stream){0};
  stream->family = number(socket, SOL_SOCKET, SO_DOMAIN);
  stream->is_tcp = (stream->family == AF_INET || stream->family == AF_INET6) &&
                   number(socket, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
                   number(socket, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
  if (!stream->is_tcp) return 0;
  /* The state is the first byte. */
  uint8_t state;
  socklen_t length = 1;
  if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &state, &length) < 0) return -1;
  stream->state = state;
  int flags = fcntl(socket, F_GETFL);
  if (flags < 0) return -1;
  stream->is_waiting = !(flags & O_NONBLOCK);
  stream->is_bound = is_bound(socket);
  stream->is_special = (flags & O_ASYNC) || number(socket, SOL_SOCKET, SO_MARK) ||
                       number(socket, SOL_SOCKET, SO_BINDTOIFINDEX) || number(socket, IPPROTO_TCP, TCP_REPAIR) ||
                       number(socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT) || has_filter(socket);
  return 0;
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

int clinux_stream_keep_to(int socket, unsigned interface) {
  int value = (int)interface;
  return setsockopt(socket, SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof value);
}

/* A filter as it grows: loads, each with a comparison that ends with the last statement where it fails. */
struct filter {
  struct sock_filter code[20];
  unsigned short count;
};

static void add(struct filter *filter, uint16_t code, uint32_t value) {
  filter->code[filter->count++] = (struct sock_filter)BPF_STMT(code, value);
}

static void must_be(struct filter *filter, uint32_t value) {
  filter->code[filter->count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0);
}

int clinux_stream_only_from(int socket, const uint8_t *address, size_t size, unsigned port) {
  static bool is_forbidden;
  if (is_forbidden) {
    errno = EPERM;
    return -1;
  }
  struct filter filter = {.count = 0};
  const uint32_t network = (uint32_t)SKF_NET_OFF, source = size == 4 ? 12 : 8;
  /* The packet begins with TCP's header, and there with the sender's port; IP's header has an offset of its own. */
  add(&filter, BPF_LD | BPF_B | BPF_ABS, network);
  add(&filter, BPF_ALU | BPF_AND | BPF_K, 0xf0);
  must_be(&filter, size == 4 ? 0x40 : 0x60);
  add(&filter, BPF_LD | BPF_H | BPF_ABS, 0);
  must_be(&filter, port);
  for (uint32_t place = 0; place < size; place += 4) {
    uint32_t value;
    memcpy(&value, address + place, 4);
    add(&filter, BPF_LD | BPF_W | BPF_ABS, network + source + place);
    must_be(&filter, ntohl(value));
  }
  add(&filter, BPF_RET | BPF_K, UINT32_MAX);
  add(&filter, BPF_RET | BPF_K, 0);
  for (unsigned short index = 0; index < filter.count; index++)
    if (BPF_CLASS(filter.code[index].code) == BPF_JMP) filter.code[index].jf = (uint8_t)(filter.count - index - 2);
  struct sock_fprog program = {.len = filter.count, .filter = filter.code};
  int on = 1;
  if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) {
    is_forbidden = errno == EPERM;
    return -1;
  }
  return setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on);
}
