/* SPDX-License-Identifier: Apache-2.0
 *
 * Places: as many as there may be connections. Who finds none waits, in order, and not for ever.
 */
#ifndef HANDOFFD_STREAMER_PLACES_H
#define HANDOFFD_STREAMER_PLACES_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct place;
TAILQ_HEAD(place_queue, place);

struct places {
	struct ev_loop *loop;
	ev_timer timer; /* for the first that waits, or at once when there is a place for it */
	struct place_queue waits;
	size_t n_taken;
	size_t most;
	int64_t patience_ms;
};

/* Embedded in whatever takes one. */
struct place {
	TAILQ_ENTRY(place) queue;
	int64_t until_ms;
	enum { PLACE_NONE, PLACE_WAITED_FOR, PLACE_TAKEN } state;
	/* 0: it is taken; -EBUSY: none became free in time. Never called from places_take() or places_leave(). */
	void (*done)(struct place *place, int rc);
};

void places_init(struct places *places, struct ev_loop *loop, size_t most, int64_t patience_ms);
/* Whether it was taken at once; else done() tells. */
bool places_take(struct places *places, struct place *place);
/* Give it back, or wait no more. */
void places_leave(struct places *places, struct place *place);

#endif
