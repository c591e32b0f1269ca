/* The threads whose calls are held: what they have open, as a /proc shows it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A second descriptor for what a number of a thread's stands for: pidfd_open(2) of the thread, where the kernel can do
 * that (6.9), else of its process, and pidfd_getfd(2). proc is a descriptor of a /proc. EBADF where the number is none.
 *
 * What leads to the latest threads stays open. It leads to a thread itself and not to its number: of one that has ended
 * it shows nothing, whoever has its number by then.
 */
int clinux_caller_take(int proc, int thread, int descriptor);

/* process_vm_readv(2): how many bytes could be read. */
long clinux_caller_read(int thread, uint64_t address, void *bytes, size_t size);

/*
 * Its memory, as a file to pwrite(2) to. That stays what it is when the thread becomes another program: to be opened
 * before it is looked whether the call is still held.
 */
int clinux_caller_memory(int proc, int thread);

/*
 * How a number of a thread's is marked: the flags of open(2) and fcntl(2), with O_CLOEXEC, O_NONBLOCK and O_ASYNC; -1
 * where that cannot be seen. To be asked after clinux_caller_take of the same thread, as the next one.
 */
long clinux_caller_marks(int proc, int thread, int descriptor);

/*
 * Whether a thread can have another descriptor: it has fewer than its RLIMIT_NOFILE. True where the kernel does not tell
 * how many it has (before 6.2).
 */
bool clinux_caller_has_room(int proc, int thread);

/* What else knows a socket by a number or an interest of its own, in one table of descriptors. */
enum clinux_socket_sharing {
  clinux_socket_alone,
  clinux_socket_twice,
  clinux_socket_in_epoll,
  clinux_socket_crowd,
};
/*
 * Looks through the descriptors of a thread, 1024 at most (kcmp(2)). Returns a clinux_socket_sharing, or -1 where that
 * cannot be seen.
 */
int clinux_caller_sharing(int proc, int thread, int descriptor);
