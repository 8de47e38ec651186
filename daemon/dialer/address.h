/* SPDX-License-Identifier: Apache-2.0
 *
 * Address: where a connection goes, and whether a name may lead there.
 */
#ifndef DIALER_ADDRESS_H
#define DIALER_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* The text of an address, without brackets. Returns whether it is one. */
bool address_parse(const char *text, union address *address);

socklen_t address_len(const union address *address);
void address_set_port(union address *address, uint16_t port);
/* Ports aside. */
bool address_equal(const union address *a, const union address *b);

/* Whether this is a unicast address of the Internet: not of this machine, this link or this site, not multicast, not
 * reserved, and not a form of IPv6 that stands for such an IPv4 address. */
bool address_is_public(const union address *address);

#endif
