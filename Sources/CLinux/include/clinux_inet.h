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
/* The same for what is sent alone. */
void clinux_inet_bound_sent(int socket, int size);

/* SO_KEEPALIVE: a peer that has gone without a word is found out. */
void clinux_inet_keep_alive(int socket);
/* Takes back options of a server's that would have a relay hold back bytes, or wait. */
void clinux_inet_plain(int socket);
/* SO_LINGER with no time: the peer sees a connection that is reset, and whoever closes it does not wait. */
void clinux_inet_reset_when_closed(int socket);
/* SO_LINGER: whoever has the last descriptor of it waits in close(2). */
bool clinux_inet_lingers(int socket);
void clinux_inet_linger_no_more(int socket);

/*
 * Whoever sent a datagram, and which address of ours it was sent to; or who is at the other end of a connection. Two are
 * equal when all their bytes are.
 */
struct clinux_inet_peer {
  uint8_t address[16];
  uint8_t local[16];
  uint32_t scope;
  uint16_t port;
  uint8_t is_v6;
  uint8_t is_mapped;
};

/* accept4(2), non-blocking. */
int clinux_inet_accept(int socket, struct clinux_inet_peer *peer);
/*
 * accept4(2) of somebody else's listening socket that waits or does not; what is accepted waits or does not. EAGAIN when
 * there is no connection, EINTR when there was one and somebody else took it. Never waits longer than a millisecond.
 */
int clinux_inet_accept_now(int socket, bool waits, struct clinux_inet_peer *peer);
/* Who is at the other end, as accept(2) tells it: at most 28 bytes are written, and their number returned. */
size_t clinux_inet_written(const struct clinux_inet_peer *peer, bool as_v4, void *bytes);

/* Binds to an address and a port that is free, which is returned: so that it is known before there is a connection. */
int clinux_inet_take_port(int socket, const uint8_t *address, size_t size);

/* What has come in, which stays there (MSG_PEEK). None of these waits. */
ssize_t clinux_inet_peek(int socket, void *bytes, size_t size);
ssize_t clinux_inet_send(int socket, const void *bytes, size_t size);
/* Takes so many bytes of what has come in away. */
ssize_t clinux_inet_drop(int socket, size_t size);

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

/* A number that other processes change as well: read, and changed if it still is the old one. */
uint64_t clinux_load(const uint64_t *word);
bool clinux_change(uint64_t *word, uint64_t old, uint64_t new_one);
/* Adds to a number that other threads add to as well, and other processes read. */
void clinux_add(uint64_t *sum, uint64_t amount);
