/* Unix sockets that carry descriptors. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A pair of connected close-on-exec sockets, of packets or of a stream. */
int clinux_socketpair(bool packets, int pair[2]);
/* A datagram or stream socket, close-on-exec. */
int clinux_unix_socket(bool datagram);
/* Binds to, or connects to, a path of at most 107 bytes. */
int clinux_unix_bind(int socket, const char *path);
int clinux_unix_connect(int socket, const char *path);
int clinux_listen(int socket, int backlog);
/* accept4(2), close-on-exec and non-blocking. */
int clinux_accept(int socket);
int clinux_set_nonblocking(int descriptor, bool nonblocking);
/* SO_PEERCRED of a connected stream socket. */
int clinux_peer_credentials(int socket, int *process, unsigned *uid);

/* sendmsg(2) of one packet with up to one descriptor (-1 for none); never raises SIGPIPE. */
ssize_t clinux_send(int socket, const void *bytes, size_t size, int descriptor);
/* recvmsg(2) of one packet; *descriptor becomes the one that came along, or -1. Surplus ones are closed. */
ssize_t clinux_receive(int socket, void *bytes, size_t size, int *descriptor);

/* The most descriptors that go with one message of a stream. */
enum { clinux_stream_descriptors = 16 };
/* sendmsg(2) of what the stream takes without waiting, the descriptors with its first byte; never raises SIGPIPE. */
ssize_t clinux_stream_send(int socket, const void *bytes, size_t size, const int *descriptors, int count);
/* recvmsg(2) of what is there; *count becomes the number of descriptors that came along. Surplus ones are closed. */
ssize_t clinux_stream_receive(int socket, void *bytes, size_t size, int *descriptors, int capacity, int *count);
