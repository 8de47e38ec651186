/* SPDX-License-Identifier: Apache-2.0
 *
 * Pool: the streamers of one backend. Handoffs go to them in turn.
 *
 * When the sockets of all of them are full, one handoff is kept here and the connections of the
 * modules are not read, so that the rest waits in the kernel and the gate's memory stays what it is. If that lasts,
 * handoffs are refused until a streamer reads again.
 */
#ifndef GATE_POOL_H
#define GATE_POOL_H

#include "daemon/common/list.h"
#include "limit.h"
#include "peer.h"
#include "request.h"

/* The handoff that waits. */
struct held {
	struct message_handoff body;
	uint8_t *bytes; /* stripped request; NULL when none is held */
	size_t len;
	struct request request; /* only its descriptors and client are used */
	struct ticket *ticket;
};

struct pool {
	struct gate *gate;
	size_t backend;
	struct peer *workers;
	size_t n_workers;
	size_t next;
	struct held held;
	bool stalled;        /* held for too long: refuse until a streamer reads again */
	struct list waiting; /* connections that are not read meanwhile, by their pool_node */
	ev_timer patience;
	void (*on_room)(struct list *node); /* called for each that waited, taken off the list */
};

void pool_init(struct pool *pool, struct gate *gate, size_t backend, void (*on_room)(struct list *node));

/* Whether handoffs must wait: put the connection on waiting and stop reading it. */
static inline bool pool_must_wait(const struct pool *pool)
{
	return pool->held.bytes != NULL;
}

/* Pass a verified handoff to the next streamer, or keep it until one can take it. The request stays the caller's:
 * descriptors that are kept are taken out of it; so does the ticket (NULL: it does not count) unless it returns
 * REASON_OK. Returns that or the reason to refuse it. */
enum reason pool_forward(struct pool *pool, struct request *request, size_t listener, struct ticket *ticket,
                         uint64_t *stream_id);

/* A streamer came, went or reads again. */
void pool_changed(struct pool *pool);

/* Refuse what is held; the gate stops. */
void pool_stop(struct pool *pool);

#endif
