/* Stream sockets that one network namespace makes for another, and the routes that decide on it. */
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

/* SO_NETNS_COOKIE: the number of the network namespace that a socket was made in; 0 where it cannot be had. */
uint64_t clinux_socket_namespace(int socket);

struct clinux_stream {
  /* AF_INET or AF_INET6, and nothing else, for TCP. */
  int family;
  /* As TCP counts: 1 established, 2 on the way there, 7 closed. */
  int state;
  bool is_tcp;
  bool is_bound;
  bool is_waiting;
  /* It has been set up in a way that means something in its own network namespace only, or that cannot be looked up. */
  bool is_special;
};
int clinux_stream_look(int socket, struct clinux_stream *stream);

/* Gives a new socket the options of another one: those that can be looked up and mean the same everywhere. */
void clinux_stream_copy_options(int from, int to, int family);
/* SO_BINDTOIFINDEX: once done, only the root of the socket's network namespace takes it off. */
int clinux_stream_keep_to(int socket, unsigned interface);
/*
 * Lets through what comes from this address and port, and nothing else, whatever the socket is made to do later: nobody
 * can take that off (SO_ATTACH_FILTER, SO_LOCK_FILTER). EPERM on kernels that keep such filters of TCP to root. An address of IPv4 on a socket of IPv6 has 4 bytes here.
 */
int clinux_stream_only_from(int socket, const uint8_t *address, size_t size, unsigned port);
