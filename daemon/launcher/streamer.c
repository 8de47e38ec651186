/* SPDX-License-Identifier: Apache-2.0
 *
 * Streamer: see streamer.h. There are no places yet: whoever wishes for one is told so.
 */
#include "streamer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/common/channel.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

/* Channels at once: more than all workers of a configuration, twice over, can have. */
#define CHANNELS_MAX 1024

struct streamer {
	const struct config_backend *backend;
	uint32_t worker;
	struct channel channel;
	ev_io readable;
};

static struct ev_loop *loop;
static const struct config *config;
static size_t handler;
static size_t n_streamers;

static void streamer_close(struct streamer *streamer, const char *why)
{
	log_event(LOG_INFO, "channel-closed", LOG_STR("backend", streamer->backend->name),
	          LOG_INT("worker", streamer->worker), LOG_STR("detail", why));
	ev_io_stop(loop, &streamer->readable);
	channel_close(&streamer->channel);
	free(streamer);
	n_streamers--;
}

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct streamer *streamer = watcher->data;
	struct message_placed answer = {.error = -EBUSY};
	struct message message;
	int result = channel_receive(&streamer->channel, buffer, &message);

	(void)ev;
	(void)events;
	if (result == -EAGAIN)
		return;
	if (result > 0) {
		message_close_fds(&message);
		result = message.type == MESSAGE_PLACE || message.type == MESSAGE_LEAVE ? 1 : -EBADMSG;
	}
	if (result <= 0) {
		metrics_add(METRIC_MESSAGE_MALFORMED, result == -EBADMSG ? 1 : 0);
		streamer_close(streamer, result == 0 ? "end" : strerror(-result));
		return;
	}
	if (message.type == MESSAGE_LEAVE)
		return;
	memcpy(&answer.id, message.body, sizeof(answer.id));
	result = channel_send(&streamer->channel, MESSAGE_PLACED, &answer, NULL, 0, NULL, 0);
	if (result < 0)
		streamer_close(streamer, strerror(-result));
}

void streamers_init(struct ev_loop *ev, const struct config *configuration, size_t number)
{
	loop = ev;
	config = configuration;
	handler = number;
}

int streamer_open(uint32_t backend, uint32_t worker, int fd)
{
	struct streamer *streamer;
	int result = 0;

	if (backend >= config->n_backends || worker >= config->backends[backend].workers ||
	    config->backends[backend].type != BACKEND_HANDLER || config->backends[backend].handler != handler)
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
	streamer->backend = &config->backends[backend];
	streamer->worker = worker;
	streamer->channel = (struct channel){.fd = fd, .self = ROLE_LAUNCHER, .peer = ROLE_STREAMER};
	ev_io_init(&streamer->readable, on_readable, fd, EV_READ);
	streamer->readable.data = streamer;
	ev_io_start(loop, &streamer->readable);
	n_streamers++;
	log_event(LOG_INFO, "channel-open", LOG_STR("backend", streamer->backend->name), LOG_INT("worker", worker));
	return 0;
}
