/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: what one process of a pool knows. One backend, one credential; the streams it runs.
 */
#ifndef HANDOFFD_STREAMER_STREAMER_H
#define HANDOFFD_STREAMER_STREAMER_H

#include <ev.h>
#include <sys/queue.h>

#include "daemon/common/config.h"
#include "dial.h"
#include "launch.h"
#include "text.h"
#include "waiting.h"

struct backend_type_ops;
struct stream;

LIST_HEAD(stream_list, stream);
STAILQ_HEAD(stream_queue, stream);

struct streamer {
	struct ev_loop *loop;
	const struct config *config;
	const struct config_backend *backend;
	const struct backend_type_ops *ops;
	enum config_output output;     /* the backend's; its init() may know better */
	struct dialer_link dialer;     /* where the backend has an upstream */
	struct launcher_link launcher; /* where it is a handler */
	struct waiting waiting;        /* handoffs, where the backend has reserve() */
	size_t descriptors;            /* that this process may have */
	size_t n_streams;
	size_t n_relays;              /* of them */
	struct stream_list streams;   /* all of them, for the end of the process */
	struct stream_queue deferred; /* those to see to once the event batch is over */
	ev_prepare after_batch;
	struct text scratch; /* where one event is put together */
	bool stopping;       /* ends when its streams have */
	uint32_t gate;       /* connection of the gate by which the handoff at hand came */
	/* A stream that the gate counts has ended: tell it, by that connection. */
	void (*ended)(struct streamer *streamer, uint32_t gate, uint64_t stream_id);
	void (*idle)(struct streamer *streamer); /* called when the last stream is gone, and no handoff waits */
};

/* Call idle() when it is. */
void streamer_check_idle(struct streamer *streamer);

#endif
