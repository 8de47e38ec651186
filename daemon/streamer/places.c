/* SPDX-License-Identifier: Apache-2.0
 *
 * Places: see places.h.
 */
#include "places.h"

#include <errno.h>

#include "clock.h"

static void wake(struct places *places, int64_t after_ms)
{
	ev_timer_stop(places->loop, &places->timer);
	ev_timer_set(&places->timer, after_ms > 0 ? (double)after_ms / 1000 : 0.0, 0.0);
	ev_timer_start(places->loop, &places->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct places *places = timer->data;
	struct place *first;

	(void)loop;
	(void)revents;
	while ((first = TAILQ_FIRST(&places->waits)) != NULL) {
		bool free_place = places->n_taken < places->most;
		int64_t left = first->until_ms - clock_ms();

		if (!free_place && left > 0) {
			wake(places, left);
			return;
		}
		TAILQ_REMOVE(&places->waits, first, queue);
		first->state = free_place ? PLACE_TAKEN : PLACE_NONE;
		places->n_taken += free_place;
		first->done(first, free_place ? 0 : -EBUSY);
	}
}

void places_init(struct places *places, struct ev_loop *loop, size_t most, int64_t patience_ms)
{
	*places = (struct places){.loop = loop, .most = most, .patience_ms = patience_ms};
	TAILQ_INIT(&places->waits);
	ev_init(&places->timer, on_timer);
	places->timer.data = places;
}

bool places_take(struct places *places, struct place *place)
{
	if (places->n_taken < places->most && TAILQ_EMPTY(&places->waits)) {
		place->state = PLACE_TAKEN;
		places->n_taken++;
		return true;
	}
	place->state = PLACE_WAITED_FOR;
	place->until_ms = clock_ms() + places->patience_ms;
	TAILQ_INSERT_TAIL(&places->waits, place, queue);
	if (!ev_is_active(&places->timer))
		wake(places, places->patience_ms);
	return false;
}

void places_leave(struct places *places, struct place *place)
{
	if (place->state == PLACE_WAITED_FOR)
		TAILQ_REMOVE(&places->waits, place, queue);
	if (place->state == PLACE_TAKEN) {
		places->n_taken--;
		if (!TAILQ_EMPTY(&places->waits))
			wake(places, 0);
	}
	place->state = PLACE_NONE;
}
