/* SPDX-License-Identifier: Apache-2.0
 *
 * Listener: one socket that modules connect to, and its connections.
 *
 * A connection costs a slot. When none is left, the one that was silent for longest is
 * closed: modules look before they use a connection, and what they had sent unread comes back to them as an end of file
 * on the reply socket, after which they may send it again. So idle connections never lock others out.
 */
#ifndef GATE_LISTENER_H
#define GATE_LISTENER_H

#include "daemon/common/list.h"
#include "gate.h"
#include "limit.h"
#include "request.h"

struct listener {
	struct gate *gate;
	size_t index;                       /* of the listen section */
	const struct config_listen *config; /* the section */
	int fd;                             /* listening socket; not owned */
	uint64_t netns_cookie;              /* of its network namespace, Apache's */
	struct limiter limiter;
	size_t slots;            /* max-connections, or fewer: as many as there are descriptors for */
	struct list connections; /* longest silent first */
	size_t n_connections;
	ev_io acceptable;
	ev_timer pause; /* after accept() failed for want of memory or descriptors */
};

struct legacy;

/* A module's connection. */
struct connection {
	struct listener *listener;
	int fd;
	ev_tstamp used;        /* when a message came last */
	struct legacy *legacy; /* on a legacy listener: what has come in so far; else NULL */
	ev_io readable;
	struct list node;      /* in the listener's connections */
	struct list pool_node; /* in the pool's waiting */
};

/* Take over the listening socket of a section. Returns 0 or -errno: without SO_NETNS_COOKIE (Linux 5.14) no client
 * socket can be told from one of another network namespace, and there is no gate. */
int listener_init(struct listener *listener, struct gate *gate, size_t index, int fd);

void listener_start(struct listener *listener);

/* Accept no more and close all connections. */
void listener_stop(struct listener *listener);

/* connection.c: take over an accepted and checked socket. Returns 0 or -ENOMEM (the fd stays the caller's). */
int connection_open(struct listener *listener, int fd);
void connection_close(struct connection *connection);
/* Close it for this reason; what it may have handed off already is refused. */
void connection_abandon(struct connection *connection, enum reason reason);
/* connection.c: let a verified handoff in, unless a limit speaks against it, and pass it on. Returns REASON_OK, or the
 * reason to refuse it with the seconds after which it may come again (0: whenever) in *retry_after_s. */
enum reason listener_forward(struct listener *listener, struct request *request, uint64_t *stream_id,
                             unsigned *retry_after_s);
/* A pool's on_room. */
void connection_resume(struct list *pool_node);

#endif
