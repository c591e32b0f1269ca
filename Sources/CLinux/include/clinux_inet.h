/* Sockets of the internet families. An address is 4 or 16 bytes in network order; a port is a plain number. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A socket that does not wait, close-on-exec; size chooses the family. */
int clinux_inet_socket(size_t size, bool datagrams);

/* Binds; an address of :: takes IPv4 as well if both is set. Streams may be bound while old connections of the same
 * port are still being forgotten. */
int clinux_inet_bind(int socket, const uint8_t *address, size_t size, unsigned port, bool both);

/* connect(2): 0, or -1 with EINPROGRESS while it is under way. */
int clinux_inet_connect(int socket, const uint8_t *address, size_t size, unsigned port);

/* SO_ERROR: how a connection that was under way turned out, as an error number. */
int clinux_inet_error(int socket);

/* Bytes that were sent are sent at once: a relay must not hold back what the sender did not. */
int clinux_inet_no_delay(int socket);

/* Whether the peer is no farther than so many microseconds there and back, as far as the kernel has seen (TCP_INFO). */
bool clinux_inet_is_near(int socket, unsigned microseconds);

/* SO_RCVBUF and SO_SNDBUF, which then no longer grow by themselves. */
void clinux_inet_bound(int socket, int size);

/* accept4(2), non-blocking; *is_v4 says whether the peer speaks IPv4, also where it came through a socket of IPv6. */
int clinux_inet_accept(int socket, bool *is_v4);

/*
 * For a listening socket that is given away: it takes connections, but whoever has it cannot make it connect. An answer
 * to a connection of its own never gets through to it, and nobody can take that back (SO_ATTACH_FILTER, SO_LOCK_FILTER).
 */
int clinux_inet_only_listen(int socket);

/* Whoever sent a datagram, and which address of ours it was sent to. Two are equal when all their bytes are. */
struct clinux_inet_peer {
  uint8_t address[16];
  uint8_t local[16];
  uint32_t scope;
  uint16_t port;
  uint8_t is_v6;
  uint8_t is_mapped;
};

/* Has the kernel tell the address that each datagram was sent to. */
int clinux_inet_tell_local(int socket);
/* Without waiting. */
ssize_t clinux_inet_receive_from(int socket, void *bytes, size_t size, struct clinux_inet_peer *peer);
/* Without waiting, from the address that the peer had sent to. */
ssize_t clinux_inet_send_to(int socket, const void *bytes, size_t size, const struct clinux_inet_peer *peer);

/* RLIMIT_NOFILE: as many descriptors as this process may have; returns how many. */
long clinux_raise_descriptor_limit(void);
/* mmap(2) of a shared file in memory, so many bytes of it; null on error. */
void *clinux_map_shared(int file, size_t size);

/* Adds to a number that other threads add to as well, and other processes read. */
void clinux_add(uint64_t *sum, uint64_t amount);
