/* SPDX-License-Identifier: Apache-2.0
 *
 * Peer: the gate's connection to one streamer, to the dialer or to a launcher. It is made again, with
 * growing pauses, until the process at the other end runs under the uid that the configuration gives it.
 *
 * Nothing is sent before the other end has announced its page of counters, and with it that it has the same sections in
 * its configuration. From then on it is asked once a second whether it is there; one that does not answer for a while
 * hangs, and is treated like one that has gone until it announces itself on a new connection. A streamer that stops is
 * retired: it gets nothing more, the connection stays open to hear of the end of its streams, and another is made to
 * the process that takes its place.
 */
#ifndef GATE_PEER_H
#define GATE_PEER_H

#include "account.h"
#include "daemon/common/channel.h"
#include "daemon/common/list.h"
#include "gate.h"

struct peer {
	struct gate *gate;
	enum role role;
	size_t backend; /* of a streamer */
	size_t worker;
	size_t handler; /* of a launcher */
	char path[CONFIG_PATH_MAX];
	uid_t uid;              /* that it must have */
	struct channel channel; /* fd is -1 while there is none */
	struct account account; /* what it has counted */
	bool announced;         /* its page came on this connection */
	uint64_t pings;         /* sent on this connection */
	uint64_t pongs;         /* the number of the last that was answered */
	void *tickets;          /* of the streams it was given and that count, see limit.h */
	struct list retired;    /* connections to streamers that stop */
	size_t n_retired;
	bool busy;       /* its socket's buffer is full; on_writable tells when no longer */
	bool complained; /* that it cannot be reached was logged */
	ev_tstamp pause; /* before the next attempt */
	ev_tstamp connected_at;
	ev_io readable;
	ev_io writable;
	ev_timer retry;
	ev_timer ping;
	void (*on_connected)(struct peer *peer);
	void (*on_lost)(struct peer *peer);
	void (*on_writable)(struct peer *peer);
};

/* Fill in what does not depend on the role. Nothing is connected yet. */
void peer_init(struct peer *peer, struct gate *gate, enum role role, uid_t uid);

/* Connect now, and again whenever that fails or the connection breaks. */
void peer_start(struct peer *peer);

/* Whether something can be sent now. */
static inline bool peer_ready(const struct peer *peer)
{
	return peer->announced && !peer->busy;
}

/* Whether the process at the other end is there and known. */
static inline bool peer_connected(const struct peer *peer)
{
	return peer->announced;
}

/* Add what those that were retired count now. */
void peer_add_retired(const struct peer *peer, uint64_t slots[METRIC_SLOT_COUNT]);

/* channel_send(), and what its failure means for the peer: full buffers make it busy, a broken connection is closed and
 * made again (on_lost is not called: the caller knows). Returns what channel_send() did. */
int peer_send(struct peer *peer, enum message_type type, const void *body, const struct span *more, size_t n_more,
              const int *fds, size_t n_fds);

/* Close and connect again after a pause. on_lost is not called. */
void peer_reconnect(struct peer *peer);

/* Close, for good. */
void peer_stop(struct peer *peer);

#endif
