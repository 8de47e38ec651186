/* SPDX-License-Identifier: Apache-2.0
 *
 * Introduction: see introduction.h.
 */
#include "introduction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "channel.h"
#include "log.h"
#include "metrics.h"
#include "role.h"

/* Seconds without accept() when there are no descriptors for it. */
#define ACCEPT_PAUSE    0.1
/* There is one gate; for a moment after its restart there may be two connections. */
#define CONNECTIONS_MAX 8

struct connection {
	struct channel channel;
	ev_io readable;
};

static const struct config *config;
static const struct introduction *introduction;
static ev_io acceptable;
static ev_timer pause_end;
static size_t n_connections;

static void connection_close(struct ev_loop *loop, struct connection *connection)
{
	ev_io_stop(loop, &connection->readable);
	channel_close(&connection->channel);
	free(connection);
	n_connections--;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct connection *connection = watcher->data;
	struct message_streamer_channel streamer;
	struct message message;
	int result = channel_receive(&connection->channel, buffer, &message);

	(void)events;
	if (result == -EAGAIN)
		return;
	if (result <= 0) {
		metrics_add(METRIC_MESSAGE_MALFORMED, result == 0 ? 0 : 1);
		log_event(result == 0 ? LOG_INFO : LOG_ERR, "gate-gone",
		          LOG_STR("detail", result == 0 ? "closed" : strerror(-result)));
		connection_close(loop, connection);
		return;
	}
	if (message.type == introduction->ping) {
		result = channel_send(&connection->channel, introduction->pong, message.body, NULL, 0, NULL, 0);
		/* A gate that reads nothing for now asks again. */
		if (result != 0 && result != -EAGAIN)
			connection_close(loop, connection);
		return;
	}
	/* The table in messages.h lets nothing else come in here. */
	memcpy(&streamer, message.body, sizeof(streamer));
	result = introduction->introduced(loop, config, streamer.backend, streamer.worker, message.fds[0]);
	if (result < 0)
		log_event(LOG_ERR, "introduction-failed", LOG_INT("backend", streamer.backend),
		          LOG_INT("worker", streamer.worker), LOG_STR("error", strerror(-result)));
}

/* Whether this is the gate. */
static bool check_peer(int fd)
{
	struct ucred credentials = {.uid = (uid_t)-1};

	if (peer_credentials(fd, &credentials) == 0 && credentials.uid == role_expected_uid(&config->user[ROLE_GATE]))
		return true;
	metrics_add(METRIC_PEER_FORBIDDEN, 1);
	log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(REASON_PEER_FORBIDDEN)),
	          LOG_INT("uid", credentials.uid));
	return false;
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
	int fd FD_CLEANUP = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *connection;

	(void)events;
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		log_event(LOG_ERR, "accept-failed", LOG_STR("error", strerror(errno)));
		ev_io_stop(loop, watcher);
		ev_timer_set(&pause_end, ACCEPT_PAUSE, 0.);
		ev_timer_start(loop, &pause_end);
		return;
	}
	if (!check_peer(fd) || n_connections >= CONNECTIONS_MAX)
		return;
	connection = calloc(1, sizeof(*connection));
	if (connection == NULL)
		return;
	connection->channel = (struct channel){.fd = fd, .self = introduction->self, .peer = ROLE_GATE};
	fd = -1;
	n_connections++;
	metrics_add(METRIC_GATE_CONNECTIONS, 1);
	int announced = metrics_announce(&connection->channel, config_sections_id(config));
	if (announced != 0)
		log_event(LOG_WARNING, "metrics-not-shared", LOG_STR("error", strerror(-announced)));
	ev_io_init(&connection->readable, on_readable, connection->channel.fd, EV_READ);
	connection->readable.data = connection;
	ev_io_start(loop, &connection->readable);
}

static void on_pause_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_io_start(loop, &acceptable);
}

void introduction_listen(struct ev_loop *loop, const struct config *configuration, int fd,
                         const struct introduction *whom)
{
	config = configuration;
	introduction = whom;
	ev_init(&pause_end, on_pause_end);
	ev_io_init(&acceptable, on_acceptable, fd, EV_READ);
	ev_io_start(loop, &acceptable);
}
