#define _GNU_SOURCE
#include "clinux_route.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

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

int clinux_route_notices(void) {
  static const unsigned groups[] = {
      RTNLGRP_LINK,        RTNLGRP_NEXTHOP,
      RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV4_NETCONF,
      RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV6_NETCONF,
  };
  struct sockaddr_nl name = {.nl_family = AF_NETLINK};
  for (size_t index = 0; index < sizeof groups / sizeof *groups; index++) name.nl_groups |= 1u << (groups[index] - 1);
  int result = clinux_route_socket();
  if (result >= 0 && bind(result, (struct sockaddr *)&name, sizeof name) < 0) {
    int error = errno;
    close(result);
    errno = error;
    return -1;
  }
  return result;
}

bool clinux_route_changed(int one, int other) {
  struct pollfd sockets[] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
  /* A queue that ran over shows as an error, which the next read takes away. */
  if (poll(sockets, 2, 0) == 0) return false;
  char byte;
  /* What is left of very many is as good a reason the next time. */
  for (int index = 0; index < 2; index++)
    for (int count = 0; count < 64; count++)
      if (recv(sockets[index].fd, &byte, 1, MSG_DONTWAIT) < 0 && errno != ENOBUFS && errno != EINTR) break;
  return true;
}
