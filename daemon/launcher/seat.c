/* SPDX-License-Identifier: Apache-2.0
 *
 * Seat: see seat.h.
 */
#include "seat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

static const struct runner *runner;
static struct queue queue;
static size_t n_seats;
static void (*on_idle)(void);

static void count_waiting(void)
{
	metrics_set(METRIC_RUNS_WAITING, queue.n_waiting);
}

struct seat *seat_find(struct streamer *streamer, uint32_t id)
{
	struct list *same = &streamer->seats[id % SEAT_LISTS];

	for (struct list *node = same->next; node != same; node = node->next) {
		struct seat *seat = LIST_ENTRY(node, struct seat, node);

		if (seat->id == id)
			return seat;
	}
	return NULL;
}

void seat_free(struct seat *seat)
{
	list_remove(&seat->node);
	list_remove(&seat->outbox);
	run_close(&seat->run);
	queue_leave(&queue, &seat->place);
	count_waiting();
	free(seat);
	n_seats--;
	if (n_seats == 0 && on_idle != NULL)
		on_idle();
}

/* ---------------------------------------------------------------- telling */

static int tell_launched(struct seat *seat)
{
	const struct message_launched answer = {.id = seat->id, .error = seat->launched};
	const int fds[] = {seat->run.stdout_fd, seat->run.stderr_fd};
	int result = channel_send(&seat->streamer->channel, MESSAGE_LAUNCHED, &answer, NULL, 0, fds,
	                          seat->launched == 0 ? 2 : 0);

	if (result != -EAGAIN)
		run_close(&seat->run);
	return result;
}

static int tell_exited(const struct seat *seat)
{
	const struct run_end *end = &seat->end;
	const struct message_exited exited = {
	    .id = seat->id,
	    .status = end->status,
	    .limit = end->limit,
	    .user_us = end->user_us,
	    .system_us = end->system_us,
	    .max_rss_kib = end->max_rss_kib,
	};

	return channel_send(&seat->streamer->channel, MESSAGE_EXITED, &exited, NULL, 0, NULL, 0);
}

/* The first of a seat's news. */
static int tell_first(struct seat *seat)
{
	const struct message_placed placed = {.id = seat->id, .error = seat->placed};

	if ((seat->news & NEWS_PLACED) != 0)
		return channel_send(&seat->streamer->channel, MESSAGE_PLACED, &placed, NULL, 0, NULL, 0);
	return (seat->news & NEWS_LAUNCHED) != 0 ? tell_launched(seat) : tell_exited(seat);
}

/* The pipes cannot travel: the launch comes to nothing, which is told when nothing of the run is left. */
static void launch_undo(struct seat *seat)
{
	seat->launched = -EMFILE;
	seat->news = seat->state == SEAT_OVER ? NEWS_LAUNCHED : 0;
	if (seat->state == SEAT_RUNS)
		run_kill(&seat->run, RUN_LIMIT_STOPPED);
}

/* Tell a seat's news. Returns whether all went. A broken channel is left to whoever reads it, who sees it too. */
static bool tell(struct seat *seat)
{
	while (seat->news != 0) {
		int result = tell_first(seat);

		if (result == -EAGAIN)
			return false;
		if (result == -ETOOMANYREFS)
			launch_undo(seat);
		else
			seat->news &= seat->news - 1;
	}
	list_remove(&seat->outbox);
	if (seat->state == SEAT_OVER || seat->state == SEAT_REFUSED)
		seat_free(seat);
	return true;
}

void seats_tell(struct streamer *streamer)
{
	while (!list_empty(&streamer->outbox)) {
		if (!tell(LIST_ENTRY(streamer->outbox.next, struct seat, outbox))) {
			ev_io_stop(runner->loop, &streamer->readable);
			ev_io_start(runner->loop, &streamer->writable);
			return;
		}
	}
	ev_io_stop(runner->loop, &streamer->writable);
	ev_io_start(runner->loop, &streamer->readable);
}

/* There is news of a seat, which may be gone after this. */
static void say(struct seat *seat, unsigned news)
{
	struct streamer *streamer = seat->streamer;

	seat->news |= news;
	if (list_empty(&seat->outbox))
		list_append(&streamer->outbox, &seat->outbox);
	if (!ev_is_active(&streamer->writable))
		seats_tell(streamer);
}

/* ---------------------------------------------------------------- its place */

static void on_told(struct place *place, int result)
{
	struct seat *seat = LIST_ENTRY(place, struct seat, place);

	count_waiting();
	metrics_add(METRIC_RUNS_REFUSED, result == 0 ? 0 : 1);
	seat->state = result == 0 ? SEAT_GIVEN : SEAT_REFUSED;
	seat->placed = result;
	say(seat, NEWS_PLACED);
}

static struct seat *seat_make(struct streamer *streamer, uint32_t id)
{
	struct seat *seat = calloc(1, sizeof(*seat));

	if (seat == NULL)
		return NULL;
	seat->streamer = streamer;
	seat->id = id;
	seat->state = SEAT_WAITS;
	seat->run.stdout_fd = -1;
	seat->run.stderr_fd = -1;
	list_append(&streamer->seats[id % SEAT_LISTS], &seat->node);
	list_init(&seat->outbox);
	n_seats++;
	return seat;
}

int seat_place(struct streamer *streamer, uint32_t id)
{
	struct seat *seat;
	int result;

	if (seat_find(streamer, id) != NULL)
		return -EBADMSG;
	seat = seat_make(streamer, id);
	if (seat == NULL)
		return -ENOMEM;
	result = queue_enter(&queue, &seat->place);
	count_waiting();
	if (result < 0 || seat->place.state == PLACE_GIVEN)
		on_told(&seat->place, result);
	return 0;
}

void seats_close(void (*idle)(void))
{
	on_idle = idle;
	queue_close(&queue);
	if (n_seats == 0)
		idle();
}

/* ---------------------------------------------------------------- its run */

/* Nothing is left of the launch. */
static void launch_failed(struct seat *seat, int error)
{
	seat->state = SEAT_OVER;
	seat->launched = error;
	queue_leave(&queue, &seat->place);
	say(seat, NEWS_LAUNCHED);
}

static void launch_over(struct seat *seat, const struct run_end *end)
{
	seat->state = SEAT_OVER;
	seat->end = *end;
	queue_leave(&queue, &seat->place);
	say(seat, NEWS_EXITED);
}

void seat_launch_failed(struct seat *seat, int error)
{
	log_event(LOG_WARNING, "handler-not-started", LOG_STR("handler", runner->handler->name),
	          LOG_INT("id", seat->id), LOG_STR("step", seat->run.cage.step == NULL ? "" : seat->run.cage.step),
	          LOG_STR("error", strerror(-error)));
	metrics_add(METRIC_RUNS_NOT_STARTED, 1);
	launch_failed(seat, error);
}

static void on_started(struct run *run)
{
	struct seat *seat = LIST_ENTRY(run, struct seat, run);

	if (seat->streamer != NULL)
		say(seat, NEWS_LAUNCHED);
}

static void on_ended(struct run *run, const struct run_end *end)
{
	struct seat *seat = LIST_ENTRY(run, struct seat, run);

	if (seat->streamer == NULL)
		seat_free(seat);
	else if (end->error == -ECANCELED)
		launch_failed(seat, end->error);
	else if (end->error < 0 || seat->launched < 0)
		seat_launch_failed(seat, end->error < 0 ? end->error : seat->launched);
	else
		launch_over(seat, end);
}

void seat_launch(struct seat *seat, const struct data *data, const struct environment *environment)
{
	int result;

	seat->run.started = on_started;
	seat->run.ended = on_ended;
	result = run_start(&seat->run, runner, data, environment);
	if (result < 0)
		seat_launch_failed(seat, result);
	else
		seat->state = SEAT_RUNS;
}

/* ---------------------------------------------------------------- all of a streamer */

/* Call a function for each seat of a streamer, which may free it. */
static void seats_each(struct streamer *streamer, void (*function)(struct seat *seat))
{
	struct list *next;

	for (size_t i = 0; i < SEAT_LISTS; i++)
		for (struct list *node = streamer->seats[i].next; node != &streamer->seats[i]; node = next) {
			next = node->next;
			function(LIST_ENTRY(node, struct seat, node));
		}
}

static void stop(struct seat *seat)
{
	if (seat->state == SEAT_RUNS)
		run_stop(&seat->run, RUN_LIMIT_STOPPED);
}

void seats_stop(struct streamer *streamer)
{
	seats_each(streamer, stop);
}

static void wait_no_more(struct seat *seat)
{
	if (seat->state == SEAT_WAITS)
		seat_free(seat);
}

static void abandon(struct seat *seat)
{
	if (seat->state != SEAT_RUNS) {
		seat_free(seat);
		return;
	}
	seat->streamer = NULL;
	seat->news = 0;
	list_remove(&seat->node);
	list_remove(&seat->outbox);
	run_close(&seat->run);
	run_kill(&seat->run, RUN_LIMIT_STOPPED);
}

void seats_abandon(struct streamer *streamer)
{
	/* First those that wait, or they get the places of the others. */
	seats_each(streamer, wait_no_more);
	seats_each(streamer, abandon);
}

void seats_init(const struct runner *for_all)
{
	runner = for_all;
	queue_init(&queue, runner->handler->concurrency, runner->handler->queue, on_told);
}
