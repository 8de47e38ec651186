/* SPDX-License-Identifier: Apache-2.0
 *
 * Names: the addresses of the hosts in the configuration, remembered for as long as DNS allows.
 *
 * Text of an address, and localhost with all below it, which by RFC 6761 nobody is to be asked about, are answered
 * here. Everything else is looked up, once for all who wait for it.
 */
#ifndef DIALER_NAMES_H
#define DIALER_NAMES_H

#include <ev.h>
#include <stddef.h>

#include "address.h"
#include "daemon/common/list.h"

#define ADDRESSES_MAX 8 /* of one name; more are left out */

struct addresses {
	size_t n;
	union address address[ADDRESSES_MAX]; /* without ports, the most promising first */
	bool configured;                      /* not by a name server's word */
};

/* Embedded in whatever waits. */
struct name_wait {
	struct list node;
	/* The addresses, or what went wrong. May be called before names_lookup() has returned. */
	void (*done)(struct name_wait *wait, const struct addresses *addresses, const char *error);
};

/* Once. */
void names_init(struct ev_loop *loop);

/* host must stay: it is the configuration's. */
void names_lookup(const char *host, struct name_wait *wait);
/* Wait no more; nothing happens when it does not wait. */
void names_cancel(struct name_wait *wait);

/* No connection came about with this address: others are more promising for a while. */
void names_failed(const char *host, const union address *address);

#endif
