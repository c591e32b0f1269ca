/* User namespaces, joining and leaving namespaces. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

extern const uint64_t clinux_newuser;
extern const uint64_t clinux_newns;
extern const uint64_t clinux_newpid;
extern const uint64_t clinux_newnet;
extern const uint64_t clinux_newipc;
extern const uint64_t clinux_newuts;
extern const uint64_t clinux_newcgroup;

/*
 * Makes a user namespace in a short-lived child that first becomes uid:gid, so that the kernel charges what the
 * namespace uses to that id, and waits there until clinux_user_namespace_release.
 * Returns the child's process id, and in *release the descriptor that keeps it waiting.
 */
int clinux_user_namespace_create(unsigned uid, unsigned gid, int *release);

/* The same with any kinds of namespaces, in a child that stays who the caller is. */
int clinux_namespaces_create(uint64_t kinds, int *release);

/* Lets that child end, and reaps it. */
void clinux_user_namespace_release(int child, int release);

/* NS_GET_USERNS: whether the caller's network namespace belongs to its user namespace, or to one below. */
bool clinux_owns_network(void);

/* setns(2), unshare(2). */
int clinux_setns(int descriptor, uint64_t kind);
int clinux_unshare(uint64_t kinds);
