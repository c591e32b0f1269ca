/*
 * Starting a program. The child runs C only, on its stack only, with every signal blocked, and ends by exec or _exit;
 * an error before exec comes back as errno over a close-on-exec pipe.
 */
#pragma once
#include <stdbool.h>

struct clinux_spawn {
  /* The program: an open descriptor, or -1 and an absolute path. */
  int program;
  const char *path;
  const char *const *arguments;
  const char *const *environment;
  /* descriptors[i] becomes descriptor i of the child; -1 stands for /dev/null. All others are closed. */
  const int *descriptors;
  int descriptor_count;
  /* A cgroup v2 directory that the child is born in, or -1. */
  int cgroup;
  /* Whether the child leads a session of its own. */
  bool new_session;
  /* A signal for the child when its parent ends, or 0. */
  int parent_death_signal;
};

/* Returns the process id, and its pidfd in *pidfd; -1 with errno when the program did not get to run. */
int clinux_spawn_program(const struct clinux_spawn *request, int *pidfd);
