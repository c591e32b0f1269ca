/* Stream sockets that one network namespace makes for another. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SO_NETNS_COOKIE: the number of the network namespace that a socket was made in; 0 where it cannot be had. */
uint64_t clinux_socket_namespace(int socket);

struct clinux_stream {
  /* AF_INET or AF_INET6, and nothing else, for TCP and MPTCP. */
  int family;
  /* As TCP counts: 1 established, 2 on the way there, 7 closed, 10 listening. */
  int state;
  unsigned port;
  bool is_tcp;
  /* MPTCP; what such a one accepts from a client of TCP is a socket of TCP. */
  bool is_multipath;
  bool is_bound;
};
int clinux_stream_look(int socket, struct clinux_stream *stream);
/* Whether it has been set up in a way that means something in its own network namespace only. */
bool clinux_stream_is_special(int socket);

bool clinux_stream_has_filter(int socket);

/* Gives a new socket the options of another one: those that can be looked up and mean the same everywhere. */
void clinux_stream_copy_options(int from, int to, int family);
/* FIONBIO: from here on calls wait. */
int clinux_stream_wait(int socket);
/* IPV6_ADDRFORM: a socket of IPv6 whose peer speaks IPv4 becomes one of IPv4. Only while it is connected both ways. */
int clinux_stream_as_v4(int socket);
/* SO_BINDTOIFINDEX: once done, only the root of the socket's network namespace takes it off. */
int clinux_stream_keep_to(int socket, unsigned interface);
/*
 * Lets through what comes from this address and port, and nothing else, whatever the socket is made to do later: nobody
 * can take that off (SO_ATTACH_FILTER, SO_LOCK_FILTER). EPERM on kernels that keep such filters of TCP to root. An
 * address of IPv4 on a socket of IPv6 has 4 bytes here.
 */
int clinux_stream_only_from(int socket, const uint8_t *address, size_t size, unsigned port);

/*
 * For a socket that is bound and about to listen, and is given away, or what it accepts is: it stays what it is, and so
 * does what it accepts. Nothing gets through to it but what is for the port, and the address if it has one, that it is
 * bound to now; nor an answer to a connection of its own, or word that there is nobody. Nobody can take that back
 * (SO_ATTACH_FILTER, SO_LOCK_FILTER). EPERM on kernels that keep such filters of TCP to root.
 */
int clinux_stream_only_listen(int socket);
