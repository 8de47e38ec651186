/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits: how many streams a listener, and each subject on it, may have at once, and how many handoffs a minute.
 *
 * A stream that counts has a ticket from the moment its handoff is let in until its streamer says that it has ended, or
 * is gone. What is remembered of a subject is dropped when it has no stream and its rate is forgotten, which takes a
 * minute at most. All handoffs without a subject are those of one.
 */
#ifndef GATE_LIMIT_H
#define GATE_LIMIT_H

#include "daemon/common/config.h"
#include "daemon/common/list.h"
#include "lib/reason.h"

/* Streams of one listener or subject, and when its next handoff is due. */
struct quota {
	size_t streams;
	int64_t due_us; /* as far ahead as the handoffs that came would take at the allowed rate */
};

struct limiter {
	const struct config_listen *config;
	struct quota quota;
	void *subjects;   /* tree of struct subject */
	struct list idle; /* those without streams, longest so first */
};

struct ticket;

void limiter_init(struct limiter *limiter, const struct config_listen *config);

/* Let a handoff in. REASON_OK, with *ticket NULL where nothing is limited; else the reason, and the seconds after which
 * it may come again in *retry_after_s. now_us: any clock that never jumps back. */
enum reason limiter_enter(struct limiter *limiter, struct span subject, int64_t now_us, struct ticket **ticket,
                          unsigned *retry_after_s);

/* The stream has ended, or never began. NULL does nothing. */
void ticket_end(struct ticket *ticket);

/* Tickets by the ids of their streams; NULL at first. */
void tickets_add(void **tickets, struct ticket *ticket, uint64_t stream_id);
/* End one. An id that is not there is ignored: the gate may have been started since. */
void tickets_end(void **tickets, uint64_t stream_id);
void tickets_end_all(void **tickets);

#endif
