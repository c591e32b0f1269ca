#define _GNU_SOURCE
#include "clinux_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int clinux_tap_make(int device, const char *name) {
  struct ifreq request = {0};
  if (strlen(name) >= IFNAMSIZ) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(request.ifr_name, name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(device, TUNSETIFF, &request) < 0) return -1;
  return ioctl(device, TUNSETPERSIST, 1);
}

unsigned clinux_interface_index(const char *name) { return if_nametoindex(name); }

/* A request being written, with room for the little that any of them holds. */
struct request {
  struct nlmsghdr header;
  char body[512];
};

static void *append(struct request *request, size_t size) {
  char *place = (char *)request + NLMSG_ALIGN(request->header.nlmsg_len);
  request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + (unsigned)size;
  return place;
}

static struct rtattr *attribute(struct request *request, int type, const void *value, size_t size) {
  struct rtattr *result = append(request, RTA_LENGTH(size));
  result->rta_type = (unsigned short)type;
  result->rta_len = (unsigned short)RTA_LENGTH(size);
  if (size) memcpy(RTA_DATA(result), value, size);
  return result;
}

static void end(struct request *request, struct rtattr *nest) {
  nest->rta_len = (unsigned short)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len) - (char *)nest);
}

/* Sends it and waits for the kernel's answer, which comes at once. */
static int perform(struct request *request) {
  int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (descriptor < 0) return -1;
  int result = -1;
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[1024];
  } answer;
  request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
  ssize_t size = send(descriptor, request, request->header.nlmsg_len, 0);
  if (size >= 0) {
    do size = recv(descriptor, &answer, sizeof answer, 0);
    while (size < 0 && errno == EINTR);
  }
  if (size >= (ssize_t)(sizeof answer.header + sizeof answer.error) && answer.header.nlmsg_type == NLMSG_ERROR) {
    errno = -answer.error.error;
    result = answer.error.error ? -1 : 0;
  } else if (size >= 0) {
    errno = EBADMSG;
  }
  int error = errno;
  close(descriptor);
  errno = error;
  return result;
}

static struct request begin(unsigned short type, unsigned short flags) {
  return (struct request){
      .header = {.nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = type, .nlmsg_flags = flags}};
}

static struct ifinfomsg *begin_link(struct request *request, unsigned interface) {
  struct ifinfomsg *link = append(request, sizeof *link);
  *link = (struct ifinfomsg){.ifi_index = (int)interface};
  return link;
}

int clinux_interface_set_up(unsigned interface, const uint8_t *address, unsigned mtu) {
  struct request request = begin(RTM_NEWLINK, 0);
  struct ifinfomsg *link = begin_link(&request, interface);
  link->ifi_flags = link->ifi_change = IFF_UP;
  if (address) attribute(&request, IFLA_ADDRESS, address, 6);
  uint32_t value = mtu;
  if (mtu) attribute(&request, IFLA_MTU, &value, sizeof value);
  return perform(&request);
}

static unsigned char family_of(size_t size) { return size == 4 ? AF_INET : AF_INET6; }

static int unless_there(int result) { return result < 0 && errno == EEXIST ? 0 : result; }

int clinux_address_add(unsigned interface, const uint8_t *address, size_t size, unsigned prefix) {
  struct request request = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  struct ifaddrmsg *message = append(&request, sizeof *message);
  *message = (struct ifaddrmsg){.ifa_family = family_of(size),
                                .ifa_prefixlen = (unsigned char)prefix,
                                .ifa_flags = size == 16 ? IFA_F_NODAD : 0,
                                .ifa_scope = RT_SCOPE_UNIVERSE,
                                .ifa_index = interface};
  attribute(&request, IFA_LOCAL, address, size);
  attribute(&request, IFA_ADDRESS, address, size);
  /* A networkd of 252 that finds one without tries for ever to give it one. */
  if (size == 4 && prefix < 31) {
    uint8_t all[4];
    memcpy(all, address, 4);
    for (unsigned bit = prefix; bit < 32; bit++) all[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    attribute(&request, IFA_BROADCAST, all, 4);
  }
  return unless_there(perform(&request));
}

int clinux_route_add_default(unsigned interface, const uint8_t *gateway, size_t size) {
  struct request request = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
  struct rtmsg *message = append(&request, sizeof *message);
  *message = (struct rtmsg){.rtm_family = family_of(size),
                            .rtm_table = RT_TABLE_MAIN,
                            .rtm_protocol = RTPROT_STATIC,
                            .rtm_scope = RT_SCOPE_UNIVERSE,
                            .rtm_type = RTN_UNICAST};
  attribute(&request, RTA_GATEWAY, gateway, size);
  uint32_t index = interface;
  attribute(&request, RTA_OIF, &index, sizeof index);
  return unless_there(perform(&request));
}

int clinux_veth_make(const char *name, const char *peer, int peer_namespace) {
  struct request request = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  begin_link(&request, 0);
  attribute(&request, IFLA_IFNAME, name, strlen(name) + 1);
  struct rtattr *info = attribute(&request, IFLA_LINKINFO, NULL, 0);
  attribute(&request, IFLA_INFO_KIND, "veth", 5);
  struct rtattr *data = attribute(&request, IFLA_INFO_DATA, NULL, 0);
  struct rtattr *other = attribute(&request, VETH_INFO_PEER, NULL, 0);
  begin_link(&request, 0);
  attribute(&request, IFLA_IFNAME, peer, strlen(peer) + 1);
  uint32_t descriptor = (uint32_t)peer_namespace;
  attribute(&request, IFLA_NET_NS_FD, &descriptor, sizeof descriptor);
  end(&request, other);
  end(&request, data);
  end(&request, info);
  return perform(&request);
}

int clinux_interface_remove(unsigned interface) {
  struct request request = begin(RTM_DELLINK, 0);
  begin_link(&request, interface);
  return perform(&request);
}
