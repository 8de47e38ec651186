/* SPDX-License-Identifier: Apache-2.0
 *
 * Queue: the places of a handler section. As many runs as there are places; who finds none waits, first come first
 * served over all channels, and only so many wait. Coming and leaving cost the same however many there are.
 */
#ifndef LAUNCHER_QUEUE_H
#define LAUNCHER_QUEUE_H

#include "daemon/common/list.h"

/* Embedded in whatever takes one; all zero before. */
struct place {
	struct list node;
	enum { PLACE_NONE, PLACE_WAITED_FOR, PLACE_GIVEN } state;
};

struct queue {
	size_t places;
	size_t longest; /* that may wait */
	size_t n_given;
	size_t n_waiting;
	bool closed;
	struct list waiting;
	/* For one that waited: 0, it has the place now; -ESHUTDOWN, it will get none. May enter and leave. */
	void (*told)(struct place *place, int result);
};

void queue_init(struct queue *queue, size_t places, size_t longest, void (*told)(struct place *place, int result));

/* Returns 0 when the place is given or waited for (state says which), -EBUSY when the queue is full too, -ESHUTDOWN
 * when it is closed. */
int queue_enter(struct queue *queue, struct place *place);

/* Give it back, or wait no more; nothing for who has none. A place that becomes free goes to the first that waits. */
void queue_leave(struct queue *queue, struct place *place);

/* Nobody gets a place any more: those that wait are told. */
void queue_close(struct queue *queue);

#endif
