/* Processes by descriptor, and what a process may say of itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const int clinux_sigrtmin;

int clinux_pidfd_open(int process);
int clinux_pidfd_signal(int pidfd, int signal);

struct clinux_exit {
  int process;
  /* The exit status, or the number of the signal. */
  int status;
  bool signalled;
};

/* waitid(P_PIDFD): reaps the process; 1 when it had ended, 0 when it still runs (only without wait), -1 on error. */
int clinux_pidfd_reap(int pidfd, bool wait, struct clinux_exit *exit);

/* clone3(2) with these namespaces, as the caller's sibling; 0 in the child, which goes on where the caller was.
   Only for a process with a single thread. */
int clinux_clone_sibling(uint64_t namespaces, int *pidfd);
/* fork(2) in the pid namespace that setns chose; 0 in the child. Only for a process with a single thread. */
int clinux_fork(void);

/* write(2) by a child that has nothing else open and ends with 0 or 1: for a file whose writer must wait, when the
   caller must not. The child's number, or -1. */
int clinux_write_aside(int descriptor, const void *bytes, size_t count, int *pidfd);
/* The same by a thread, which closes the descriptor and takes no signal: where what is written is about this process,
   and nothing hangs on it. Once in a process. False where there is no thread, with the descriptor closed. */
bool clinux_write_beside(int descriptor, const char *text);

int clinux_set_dumpable(bool dumpable);
int clinux_set_parent_death_signal(int signal);
int clinux_set_child_subreaper(bool reaper);
int clinux_set_name(const char *name);
int clinux_set_no_new_privileges(void);
/* Drops a capability from the bounding set; 0, or -1 with EINVAL for one that this kernel does not know. */
int clinux_drop_bounding(unsigned capability);
int clinux_clear_ambient(void);

/* setresuid/setresgid to one id, without supplementary groups. Only for a process with a single thread. */
int clinux_become(unsigned uid, unsigned gid);

/* The same with supplementary groups. */
int clinux_become_user(unsigned uid, unsigned gid, const unsigned *groups, int count);
/* Leads a session of its own whose terminal is standard input. */
int clinux_take_terminal(void);

/* Unblocks every signal and gives each its default action, as a program expects to find them. */
void clinux_reset_signals(void);

int clinux_execute(const char *path, const char *const *arguments, const char *const *environment);
/* execv(3): the same with this process's own environment. */
int clinux_execute_again(const char *path, const char *const *arguments);
uint64_t clinux_monotonic_microseconds(void);
uint64_t clinux_unix_seconds(void);

/* keyctl(KEYCTL_JOIN_SESSION_KEYRING): an anonymous session keyring; 0 also on a kernel without keyrings. */
int clinux_join_session_keyring(void);
/* keyctl: whether a seccomp filter, and not the kernel, has no keyrings. */
bool clinux_keyrings_are_refused(void);

/* Gives back what a process that will mostly wait does not need: free heap, and the pages of programs and libraries
   that are mapped read-only, which come back from the page cache when they are touched. */
void clinux_release_memory(void);

/* CLOCK_REALTIME in microseconds since 1970. */
uint64_t clinux_unix_microseconds(void);

/* sched_getaffinity(2): on how many processors this thread may run. */
int clinux_own_processors(void);
