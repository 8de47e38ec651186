/* SPDX-License-Identifier: Apache-2.0
 *
 * Gate: the process that takes handoffs from Apache, verifies them and passes them on.
 *
 *     listener.c    the sockets of the configuration: accept, SO_PEERCRED, slots
 *     connection.c  one module's connection: receive, check, forward or refuse
 *     legacy.c      one connection of a sender without tokens, on a listener that is told to take them
 *     request.c     one message and what is checked about it
 *     pool.c        the streamers of one backend: whose turn it is, and what waits when all are busy
 *     peer.c        a connection to another role, made again when it breaks
 *     source.c      the counters of a peer, also after its end
 *     status.c      a request for the status, and its answer
 *     report.c      the text of that answer
 *     introduce.c   which peers there are, and who of them gets a channel to whom
 */
#ifndef GATE_GATE_H
#define GATE_GATE_H

#include <ev.h>

#include "daemon/common/config.h"
#include "lib/keyring.h"

struct listener;
struct peer;
struct pool;

struct gate {
	struct ev_loop *loop;
	const struct config *config;
	struct keyring *keys;
	uint64_t next_stream_id;
	struct listener *listeners; /* one for each listen section */
	struct pool *pools;         /* one for each backend section */
	struct peer *dialer;
	struct peer *launchers; /* one for each handler section */
	size_t n_connections;   /* of modules, on all listeners */
	uint64_t instance;      /* random: tells one run of one gate from all others */
	time_t started;
	void (*settled)(struct gate *gate); /* introduce.c; NULL once it was called */
	ev_timer settling;
};

#endif
