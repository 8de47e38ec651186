/* SPDX-License-Identifier: Apache-2.0
 *
 * Dial: connections to the upstream, which only the dialer can make. Asks for one for each that waits, in order;
 * since all are to one upstream, whatever comes first serves who waits longest, and an answer that nobody waits for
 * any more is closed. Survives the dialer: what was asked for is asked for again on the next channel.
 */
#ifndef HANDOFFD_STREAMER_DIAL_H
#define HANDOFFD_STREAMER_DIAL_H

#include <ev.h>
#include <sys/queue.h>

#include "daemon/common/channel.h"

struct dial_wait;
TAILQ_HEAD(dial_queue, dial_wait);

struct dialer_link {
	struct ev_loop *loop;
	struct channel channel;
	ev_io watcher;
	ev_timer timer; /* for the wait at the head of the queue */
	struct dial_queue waits;
	size_t n_waits;
	size_t n_asked; /* messages not answered yet on this channel */
	uint32_t next_id;
	uint32_t upstream;
	int64_t patience_ms;
};

/* Embedded in whatever waits. */
struct dial_wait {
	TAILQ_ENTRY(dial_wait) queue;
	int64_t deadline_ms;
	bool waiting;
	/* The connected, non-blocking socket, which is now the callee's, or -errno (-ETIMEDOUT when nobody answered).
	 * Never called from dial_start(). */
	void (*done)(struct dial_wait *wait, int fd);
};

/* connect_timeout_ms: what the dialer itself allows; after a little more a wait ends without it. */
void dial_init(struct dialer_link *link, struct ev_loop *loop, size_t upstream, unsigned connect_timeout_ms);
/* A (new) channel to the dialer; the descriptor is taken over. */
void dial_set_channel(struct dialer_link *link, int fd);

void dial_start(struct dialer_link *link, struct dial_wait *wait);
/* Wait no more; nothing happens when it does not wait. */
void dial_cancel(struct dialer_link *link, struct dial_wait *wait);

#endif
