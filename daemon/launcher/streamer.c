/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: see streamer.h.
 *
 * After a restart of the gate a streamer has two channels until it closes the older one, on which its earlier runs are.
 */
#include "streamer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "seat.h"

/* Channels at once: more than all workers of a configuration, twice over, can have. */
#define CHANNELS_MAX 1024

static const struct runner *runner;
static const struct config *config;
static size_t handler;
static struct list streamers;
static size_t n_streamers;
static _Alignas(8) uint8_t received[MESSAGE_MAX];

/* ---------------------------------------------------------------- what a streamer says
 *
 * 0; -EBADMSG for what it may not say now; or what else is wrong. The channel is closed then. */

static int on_leave(struct streamer *streamer, uint32_t id)
{
	struct seat *seat = seat_find(streamer, id);

	/* What was launched is stopped, not left. */
	if (seat != NULL && (seat->state == SEAT_RUNS || seat->state == SEAT_OVER))
		return -EBADMSG;
	if (seat != NULL)
		seat_free(seat);
	return 0;
}

static int on_stop(struct streamer *streamer, const struct message_stop *stop)
{
	struct seat *seat = seat_find(streamer, stop->id);

	if (stop->limit != RUN_LIMIT_NONE && stop->limit != RUN_LIMIT_OUTPUT)
		return -EBADMSG;
	/* Its end may have been on its way here. */
	if (seat == NULL || seat->state == SEAT_OVER)
		return 0;
	if (seat->state != SEAT_RUNS)
		return -EBADMSG;
	run_stop(&seat->run, stop->limit == RUN_LIMIT_OUTPUT ? RUN_LIMIT_OUTPUT : RUN_LIMIT_STOPPED);
	return 0;
}

/* The data of a launch: what follows the facts, or the descriptor's. */
static int take_data(struct message *message, size_t facts_len, struct data *data)
{
	struct span rest = span_of(message->more.data + facts_len, message->more.len - facts_len);
	int fd = message->fds[0];

	if (message->n_fds == 0)
		return data_of_bytes(rest, data);
	if (rest.len > 0)
		return -EBADMSG;
	message->fds[0] = -1;
	return data_of_memfd(fd, data);
}

static int on_launch(struct streamer *streamer, struct message *message)
{
	struct environment environment = {0};
	struct data data = {.fd = -1};
	struct message_launch launch;
	struct seat *seat;
	int result;

	memcpy(&launch, message->body, sizeof(launch));
	seat = seat_find(streamer, launch.id);
	if (seat == NULL || seat->state != SEAT_GIVEN || (seat->news & NEWS_PLACED) != 0 || launch.flags != 0 ||
	    launch.facts_len > message->more.len)
		return -EBADMSG;
	result = take_data(message, launch.facts_len, &data);
	if (result == 0)
		result = environment_make(&environment, runner->handler, span_of(message->more.data, launch.facts_len),
		                          launch.n_facts, data.variable);
	/* A run begins as a copy of this process, which is not to hold what it need not know. */
	explicit_bzero(received, sizeof(struct message_header) + sizeof(launch) + message->more.len);
	if (result == 0)
		seat_launch(seat, &data, &environment);
	else if (result != -EBADMSG)
		seat_launch_failed(seat, result);
	environment_free(&environment);
	data_free(&data);
	return result == -EBADMSG ? result : 0;
}

static int on_message(struct streamer *streamer, struct message *message)
{
	struct message_stop stop;
	uint32_t id;

	/* All bodies begin with it. */
	memcpy(&id, message->body, sizeof(id));
	switch (message->type) {
	case MESSAGE_PLACE:
		return seat_place(streamer, id);
	case MESSAGE_LEAVE:
		return on_leave(streamer, id);
	case MESSAGE_STOP:
		memcpy(&stop, message->body, sizeof(stop));
		return on_stop(streamer, &stop);
	default:
		/* The table in messages.h lets nothing else come in here. */
		return on_launch(streamer, message);
	}
}

/* ---------------------------------------------------------------- the channel */

static void streamer_close(struct streamer *streamer, int error)
{
	bool misused = error == -EBADMSG;

	metrics_add(METRIC_MESSAGE_MALFORMED, misused ? 1 : 0);
	log_event(misused ? LOG_ERR : LOG_INFO, "channel-closed", LOG_STR("backend", streamer->backend->name),
	          LOG_INT("worker", streamer->worker),
	          LOG_STR("detail", misused      ? "misused"
	                            : error == 0 ? "end"
	                                         : strerror(-error)));
	list_remove(&streamer->node);
	ev_io_stop(runner->loop, &streamer->readable);
	ev_io_stop(runner->loop, &streamer->writable);
	channel_close(&streamer->channel);
	seats_abandon(streamer);
	free(streamer);
	n_streamers--;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct streamer *streamer = watcher->data;
	struct message message;
	int result = channel_receive(&streamer->channel, received, &message);

	(void)loop;
	(void)events;
	if (result == -EAGAIN)
		return;
	if (result == 1) {
		result = on_message(streamer, &message);
		message_close_fds(&message);
		if (result == 0)
			return;
	}
	streamer_close(streamer, result);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	seats_tell(watcher->data);
}

static int check_introduction(uint32_t backend, uint32_t worker)
{
	if (backend >= config->n_backends || config->backends[backend].type != BACKEND_HANDLER ||
	    config->backends[backend].handler != handler || worker >= config->backends[backend].workers)
		return -EINVAL;
	return n_streamers >= CHANNELS_MAX ? -EMFILE : 0;
}

int streamer_open(uint32_t backend, uint32_t worker, int fd)
{
	int result = check_introduction(backend, worker);
	struct streamer *streamer = result == 0 ? calloc(1, sizeof(*streamer)) : NULL;

	if (result == 0 && streamer == NULL)
		result = -ENOMEM;
	if (result < 0) {
		fd_close(&fd);
		return result;
	}
	streamer->backend = &config->backends[backend];
	streamer->worker = worker;
	streamer->channel = (struct channel){.fd = fd, .self = ROLE_LAUNCHER, .peer = ROLE_STREAMER};
	list_init(&streamer->outbox);
	for (size_t i = 0; i < SEAT_LISTS; i++)
		list_init(&streamer->seats[i]);
	list_append(&streamers, &streamer->node);
	ev_io_init(&streamer->readable, on_readable, fd, EV_READ);
	ev_io_init(&streamer->writable, on_writable, fd, EV_WRITE);
	streamer->readable.data = streamer;
	streamer->writable.data = streamer;
	ev_io_start(runner->loop, &streamer->readable);
	n_streamers++;
	log_event(LOG_INFO, "channel-open", LOG_STR("backend", streamer->backend->name), LOG_INT("worker", worker));
	return 0;
}

void streamers_init(const struct runner *for_all, const struct config *configuration, size_t number)
{
	runner = for_all;
	config = configuration;
	handler = number;
	list_init(&streamers);
	seats_init(runner);
}

void streamers_stop(void (*idle)(void))
{
	seats_close(idle);
}

void streamers_end(void)
{
	for (struct list *node = streamers.next; node != &streamers; node = node->next)
		seats_stop(LIST_ENTRY(node, struct streamer, node));
}
