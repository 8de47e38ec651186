/* SPDX-License-Identifier: Apache-2.0
 *
 * Queue: see queue.h.
 */
#include "queue.h"

#include <errno.h>

/* Take the first that waits out of the queue. */
static struct place *first_out(struct queue *queue)
{
	struct place *place = LIST_ENTRY(queue->waiting.next, struct place, node);

	list_remove(&place->node);
	queue->n_waiting--;
	return place;
}

void queue_init(struct queue *queue, size_t places, size_t longest, void (*told)(struct place *place, int result))
{
	*queue = (struct queue){.places = places, .longest = longest, .told = told};
	list_init(&queue->waiting);
}

int queue_enter(struct queue *queue, struct place *place)
{
	if (queue->closed)
		return -ESHUTDOWN;
	/* Nobody waits while a place is free: queue_leave() passes it on. */
	if (queue->n_given < queue->places) {
		place->state = PLACE_GIVEN;
		queue->n_given++;
		return 0;
	}
	if (queue->n_waiting >= queue->longest)
		return -EBUSY;
	place->state = PLACE_WAITED_FOR;
	list_append(&queue->waiting, &place->node);
	queue->n_waiting++;
	return 0;
}

void queue_leave(struct queue *queue, struct place *place)
{
	struct place *next;

	if (place->state == PLACE_WAITED_FOR) {
		list_remove(&place->node);
		queue->n_waiting--;
	}
	bool freed = place->state == PLACE_GIVEN;
	place->state = PLACE_NONE;
	if (!freed)
		return;
	queue->n_given--;
	if (list_empty(&queue->waiting))
		return;
	next = first_out(queue);
	next->state = PLACE_GIVEN;
	queue->n_given++;
	queue->told(next, 0);
}

void queue_close(struct queue *queue)
{
	struct place *place;

	queue->closed = true;
	while (!list_empty(&queue->waiting)) {
		place = first_out(queue);
		place->state = PLACE_NONE;
		queue->told(place, -ESHUTDOWN);
	}
}
