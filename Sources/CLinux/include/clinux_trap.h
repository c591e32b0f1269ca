/* connect(2) and accept(2) of a whole machine, held until somebody else has decided: seccomp's user notification. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Sets the trap over this process and all that it will start, as root of its user namespace and so without giving up
 * new privileges. Besides, io_uring_setup answers ENOSYS from here on, because connections made there meet no trap; so
 * do all calls of the x32 kind. Those of i386 meet no trap.
 * Returns the descriptor that the held calls are told at; EBUSY where there is such a trap above already.
 */
int clinux_trap_set(void);

/* Leaves this process the calls that deciding on connections takes; any other ends it. */
int clinux_trap_confine_keeper(void);

/* A call that is held. */
struct clinux_held_call {
  uint64_t id;
  /* accept or accept4, or else connect. */
  bool is_accept;
  /* The address as the caller names it: where in its memory, and how long. To accept, that is written there too. */
  uint64_t address;
  uint32_t size;
  uint64_t size_address;
  /* Of accept4. */
  uint32_t flags;
  /* The thread, as this process sees it. */
  int thread;
  /* The socket's number there. */
  int descriptor;
};

/* How much room the kernel's message takes; what clinux_trap_receive needs at its slot. */
size_t clinux_trap_message_size(void);

/*
 * Waits for the next call. The message stays in the slot until clinux_trap_done, and is written there before this
 * process can end: in shared memory whoever comes after it finds the call that it had in hand.
 * Fails with ENOENT when the call has gone, with EPIPE when there is nobody any more to make one.
 */
int clinux_trap_receive(int listener, void *slot, struct clinux_held_call *call);
/* Waits for the next call, or until the other descriptor can be read from; returns whether that one can. */
bool clinux_trap_wait(int listener, int other);
/* The call that a slot holds; false when it holds none. */
bool clinux_trap_held(const void *slot, struct clinux_held_call *call);
void clinux_trap_done(void *slot);

/* Whether the caller is still there, and so is still who has its number. */
bool clinux_trap_is_held(int listener, uint64_t id);
/* Lets the call go on in the kernel. */
int clinux_trap_continue(int listener, uint64_t id);
/* Answers it: with 0, or an error number. */
int clinux_trap_answer(int listener, uint64_t id, int error);
/* Answers it with a descriptor of ours, which gets a number there; fails with what the caller is then to be told. */
int clinux_trap_add(int listener, uint64_t id, int ours, bool close_on_exec);
/* Puts a descriptor of ours in place of one of the caller's. */
int clinux_trap_replace(int listener, uint64_t id, int ours, int theirs, bool close_on_exec);
