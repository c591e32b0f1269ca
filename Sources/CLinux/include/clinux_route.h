/* The routes of a network namespace, and what the kernel tells of their changes. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A socket that asks the kernel for routes (NETLINK_ROUTE), in the network namespace that it was made in. */
int clinux_route_socket(void);

struct clinux_route {
  /* The interface that packets leave by. */
  unsigned interface;
  /* Whether it is a way to one other host: not this host itself, nor many. */
  bool is_unicast;
  /* Whether it goes by a gateway. */
  bool has_gateway;
};
/* RTM_GETROUTE of an address of 4 or 16 bytes; -1 with the error that a connection there would have. */
int clinux_route_find(int route_socket, const uint8_t *address, size_t size, struct clinux_route *route);
/* SIOCGIFNAME: whether the interface of this number has this name. */
bool clinux_route_is_named(int route_socket, unsigned interface, const char *name);

/*
 * A socket that hears of whatever may change an answer to the above: links, addresses, routes, rules and next hops of
 * the network namespace that it was made in.
 */
int clinux_route_notices(void);
/*
 * Whether either of two such sockets has heard something since it was asked last, or may have missed it. The kernel
 * puts a notice there before the call that made the change returns.
 */
bool clinux_route_changed(int one, int other);
