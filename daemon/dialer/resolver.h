/* SPDX-License-Identifier: Apache-2.0
 *
 * Resolver: c-ares on the event loop. No threads; /etc/hosts and DNS.
 */
#ifndef DIALER_RESOLVER_H
#define DIALER_RESOLVER_H

#include <ares.h>
#include <ev.h>

/* Read the system's settings. Call it while files may still be opened. Returns 0 or a c-ares status. */
int resolver_init(struct ev_loop *loop);

/* Look up the addresses of a host, /etc/hosts first. The callback may be called before this returns, and is called
 * exactly once; a result is the callee's to free with ares_freeaddrinfo(). */
void resolver_lookup(const char *host, ares_addrinfo_callback callback, void *data);

#endif
