/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: answering a streamer's wishes for connections.
 *
 * After a restart of the gate a streamer has two channels until it closes the older one; what was asked on that is
 * still answered there.
 */
#include "streamer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "connector.h"
#include "daemon/common/channel.h"
#include "daemon/common/list.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

/* Connections on their way for one channel. */
#define DIALS_MAX    1024
/* Channels at once: more than all workers of a configuration, twice over, can have. */
#define CHANNELS_MAX 1024

struct streamer {
	struct ev_loop *loop;
	const struct config *config;
	const struct config_backend *backend;
	uint32_t worker;
	struct channel channel;
	ev_io readable;
	ev_io writable;
	struct list wishes;
	size_t n_wishes;
};

/* What a streamer asked for and was not told yet. */
struct wish {
	struct streamer *streamer;
	struct list node;
	uint32_t id;
	struct connector *connector; /* NULL when the answer is known */
	int error;
	int fd;
};

static size_t n_streamers;

static void wish_free(struct wish *wish)
{
	list_remove(&wish->node);
	wish->streamer->n_wishes--;
	if (wish->connector != NULL)
		connector_cancel(wish->connector);
	fd_close(&wish->fd);
	free(wish);
}

static void streamer_close(struct streamer *streamer, const char *why)
{
	log_event(LOG_INFO, "channel-closed", LOG_STR("backend", streamer->backend->name),
	          LOG_INT("worker", streamer->worker), LOG_STR("detail", why));
	while (!list_empty(&streamer->wishes))
		wish_free(LIST_ENTRY(streamer->wishes.next, struct wish, node));
	ev_io_stop(streamer->loop, &streamer->readable);
	ev_io_stop(streamer->loop, &streamer->writable);
	channel_close(&streamer->channel);
	free(streamer);
	n_streamers--;
}

static int send_answer(struct streamer *streamer, uint32_t id, int error, int fd)
{
	struct message_dialed answer = {.id = id, .error = error};

	return channel_send(&streamer->channel, MESSAGE_DIALED, &answer, NULL, 0, &fd, fd >= 0 ? 1 : 0);
}

/* Tell the streamer; a wish whose answer does not go out now stays until the socket takes it. Returns whether it went.
 * A broken channel is left to on_readable(), which sees it too. */
static bool answer(struct wish *wish)
{
	struct streamer *streamer = wish->streamer;
	int result = send_answer(streamer, wish->id, wish->error, wish->fd);

	if (result == -EAGAIN) {
		ev_io_start(streamer->loop, &streamer->writable);
		return false;
	}
	/* The descriptor cannot travel; the answer can say so. */
	if (result == -ETOOMANYREFS)
		send_answer(streamer, wish->id, -EMFILE, -1);
	wish_free(wish);
	return true;
}

static void on_dialed(void *data, int fd, int error)
{
	struct wish *wish = data;

	metrics_add(fd >= 0 ? METRIC_DIALER_CONNECTED : METRIC_DIALER_FAILED, 1);
	wish->connector = NULL;
	wish->fd = fd;
	wish->error = error;
	answer(wish);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct streamer *streamer = watcher->data;
	struct list *next;

	(void)events;
	ev_io_stop(loop, watcher);
	for (struct list *node = streamer->wishes.next; node != &streamer->wishes; node = next) {
		struct wish *wish = LIST_ENTRY(node, struct wish, node);

		next = node->next;
		if (wish->connector == NULL && !answer(wish))
			return;
	}
}

/* Whether this streamer may have a connection to that upstream. */
static bool allowed(const struct streamer *streamer, uint32_t upstream)
{
	return streamer->backend->type == BACKEND_OPENAI && streamer->backend->upstream == upstream;
}

/* Note a wish. Returns 0 or what to answer at once. */
static int add_wish(struct streamer *streamer, const struct message_dial *message)
{
	struct wish *wish;

	if (!allowed(streamer, message->upstream)) {
		log_event(LOG_WARNING, "dial-refused", LOG_STR("backend", streamer->backend->name),
		          LOG_INT("worker", streamer->worker), LOG_INT("upstream", message->upstream));
		return -EACCES;
	}
	if (streamer->n_wishes >= DIALS_MAX)
		return -EBUSY;
	wish = calloc(1, sizeof(*wish));
	if (wish == NULL)
		return -ENOMEM;
	wish->connector = connector_start(streamer->loop, streamer->config, message->upstream, on_dialed, wish);
	if (wish->connector == NULL) {
		free(wish);
		return -ENOMEM;
	}
	wish->streamer = streamer;
	wish->id = message->id;
	wish->fd = -1;
	list_append(&streamer->wishes, &wish->node);
	streamer->n_wishes++;
	return 0;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct streamer *streamer = watcher->data;
	struct message_dial dial;
	struct message message;
	int result = channel_receive(&streamer->channel, buffer, &message);

	(void)loop;
	(void)events;
	if (result == -EAGAIN)
		return;
	if (result <= 0) {
		streamer_close(streamer, result == 0 ? "end" : strerror(-result));
		return;
	}
	/* The table in messages.h lets nothing else come in here. */
	memcpy(&dial, message.body, sizeof(dial));
	result = add_wish(streamer, &dial);
	metrics_add(METRIC_DIALER_REFUSED, result == 0 ? 0 : 1);
	/* A streamer that asks faster than it reads refusals has no claim to each of them. */
	if (result < 0 && send_answer(streamer, dial.id, result, -1) < 0)
		streamer_close(streamer, "refusals are not read");
}

int streamer_open(struct ev_loop *loop, const struct config *config, uint32_t backend, uint32_t worker, int fd)
{
	struct streamer *streamer;
	int result = 0;

	if (backend >= config->n_backends || worker >= config->backends[backend].workers)
		result = -EINVAL;
	else if (n_streamers >= CHANNELS_MAX)
		result = -EMFILE;
	streamer = result == 0 ? calloc(1, sizeof(*streamer)) : NULL;
	if (result == 0 && streamer == NULL)
		result = -ENOMEM;
	if (result < 0) {
		fd_close(&fd);
		return result;
	}
	streamer->loop = loop;
	streamer->config = config;
	streamer->backend = &config->backends[backend];
	streamer->worker = worker;
	streamer->channel = (struct channel){.fd = fd, .self = ROLE_DIALER, .peer = ROLE_STREAMER};
	list_init(&streamer->wishes);
	ev_io_init(&streamer->readable, on_readable, fd, EV_READ);
	ev_io_init(&streamer->writable, on_writable, fd, EV_WRITE);
	streamer->readable.data = streamer;
	streamer->writable.data = streamer;
	ev_io_start(loop, &streamer->readable);
	n_streamers++;
	log_event(LOG_INFO, "channel-open", LOG_STR("backend", streamer->backend->name), LOG_INT("worker", worker));
	return 0;
}
