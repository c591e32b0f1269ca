/* Interfaces, addresses and routes of the network namespace that the caller is in. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TUNSETIFF, TUNSETPERSIST: makes a tap device that stays when it is closed, or finds the one of this name.
 * device is an open /dev/net/tun. */
int clinux_tap_make(int device, const char *name);

/* if_nametoindex(3); 0 when there is none. */
unsigned clinux_interface_index(const char *name);

/* RTM_SETLINK: address is null or six bytes; an mtu of 0 stays as it is; brings the interface up. */
int clinux_interface_set_up(unsigned interface, const uint8_t *address, unsigned mtu);

/* RTM_NEWADDR of 4 or 16 bytes, with the broadcast address of its network, without a search for duplicates; one that is there already is no error. */
int clinux_address_add(unsigned interface, const uint8_t *address, size_t size, unsigned prefix);

/* RTM_NEWROUTE: the default route by a gateway of 4 or 16 bytes; one that is there already is no error. */
int clinux_route_add_default(unsigned interface, const uint8_t *gateway, size_t size);

/* RTM_NEWLINK: a pair of virtual Ethernet devices, the second one in another network namespace. */
int clinux_veth_make(const char *name, const char *peer, int peer_namespace);

/* RTM_DELLINK. */
int clinux_interface_remove(unsigned interface);
