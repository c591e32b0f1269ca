/* A program in the kernel that decides which packets may leave the sockets of a control group's processes. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Addresses of 4 or 16 bytes that have their first bits in common. */
struct clinux_prefix {
  uint8_t bytes[16];
  uint8_t size;
  uint8_t bits;
};

/*
 * BPF_PROG_LOAD: lets nothing through that stays on this host (all of that leaves by the loopback interface, whatever
 * address it is sent to), or that goes to one of the closed addresses; but questions to these name servers, by UDP or
 * TCP to port 53, go. servers4 holds count4 addresses of 4 bytes, servers6 count6 of 16; up to 8 of each.
 * Returns a descriptor of the program.
 */
int clinux_guard_make(const uint8_t *servers4, size_t count4, const uint8_t *servers6, size_t count6,
                      const struct clinux_prefix *closed, size_t closed_count);

/* BPF_PROG_ATTACH: for the sockets that processes of the group make from now on; until the group is removed. */
int clinux_guard_attach(int group, int program);
