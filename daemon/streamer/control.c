/* SPDX-License-Identifier: Apache-2.0
 *
 * Control: see control.h.
 */
#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "backend.h"
#include "daemon/common/log.h"
#include "handoff.h"

#define MESSAGES_AT_ONCE 32 /* before the streams get their turn */

static char receive_buffer[MESSAGE_MAX];

/* The streamer has one. */
static struct control *the_control;

static void connection_close(struct control_connection *connection, const char *why)
{
	log_event(LOG_NOTICE, "gate-disconnected", LOG_STR("reason", why));
	ev_io_stop(connection->control->streamer->loop, &connection->watcher);
	channel_close(&connection->channel);
	free(connection->ended);
	connection->ended = NULL;
	connection->n_ended = connection->room_ended = 0;
	connection->number = 0;
}

/* ---------------------------------------------------------------- streams that ended */

static void watch(struct control_connection *connection)
{
	struct ev_loop *loop = connection->control->streamer->loop;
	int events = (connection->read_all ? 0 : EV_READ) | (connection->n_ended > 0 ? EV_WRITE : 0);

	ev_io_stop(loop, &connection->watcher);
	ev_io_set(&connection->watcher, connection->channel.fd, events);
	if (events != 0)
		ev_io_start(loop, &connection->watcher);
}

static void on_ended(struct streamer *streamer, uint32_t gate, uint64_t stream_id)
{
	struct control_connection *connection = the_control->connections;
	struct control_connection *end = connection + CONTROL_CONNECTIONS_MAX;
	uint64_t *grown;

	(void)streamer;
	while (connection < end && connection->number != gate)
		connection++;
	if (connection == end)
		return; /* that gate counts no more */
	if (connection->n_ended == connection->room_ended) {
		grown =
		    reallocarray(connection->ended, connection->room_ended + MESSAGE_STREAMS_ENDED_MAX, sizeof(*grown));
		if (grown == NULL) {
			/* A gate that is not told would count the stream for ever; a new connection starts at none. */
			connection_close(connection, "no-memory");
			return;
		}
		connection->ended = grown;
		connection->room_ended += MESSAGE_STREAMS_ENDED_MAX;
	}
	connection->ended[connection->n_ended++] = stream_id;
}

/* Send what there is; the rest when the socket takes it. */
static void tell_ended(struct control_connection *connection)
{
	while (connection->n_ended > 0) {
		size_t n =
		    connection->n_ended < MESSAGE_STREAMS_ENDED_MAX ? connection->n_ended : MESSAGE_STREAMS_ENDED_MAX;
		struct message_streams_ended body = {.n = n};
		struct span ids = span_of(connection->ended + connection->n_ended - n, n * sizeof(uint64_t));
		int rc = channel_send(&connection->channel, MESSAGE_STREAMS_ENDED, &body, &ids, 1, NULL, 0);

		if (rc == -EAGAIN)
			break;
		if (rc != 0) {
			connection_close(connection, strerror(-rc));
			return;
		}
		connection->n_ended -= n;
	}
	if (connection->n_ended == 0) {
		free(connection->ended);
		connection->ended = NULL;
		connection->room_ended = 0;
	}
	watch(connection);
}

static void before_waiting(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
	struct control *control = watcher->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connections[i].n_ended > 0 && !(control->connections[i].watcher.events & EV_WRITE))
			tell_ended(&control->connections[i]);
}

/* ---------------------------------------------------------------- what the gate says */

static void take_dialer_channel(struct streamer *streamer, struct message *message)
{
	if (!streamer->ops->has_upstream)
		return; /* nothing to dial: the channel is closed */
	dial_set_channel(&streamer->dialer, message->fds[0]);
	message->fds[0] = -1;
	log_event(LOG_INFO, "dialer-introduced");
}

static void take_launcher_channel(struct streamer *streamer, struct message *message)
{
	if (streamer->backend->type != BACKEND_HANDLER)
		return; /* nothing to start */
	launch_set_channel(&streamer->launcher, message->fds[0]);
	message->fds[0] = -1;
	log_event(LOG_INFO, "launcher-introduced");
}

static void answer_ping(struct control_connection *connection, const struct message *message)
{
	int rc = channel_send(&connection->channel, MESSAGE_STREAMER_PONG, message->body, NULL, 0, NULL, 0);

	/* A gate that reads nothing for now asks again. */
	if (rc != 0 && rc != -EAGAIN)
		connection_close(connection, strerror(-rc));
}

/* Take one message; false when there is none for now, or no connection any more. */
static bool take_message(struct control_connection *connection)
{
	struct streamer *streamer = connection->control->streamer;
	struct message message;
	int rc = channel_receive(&connection->channel, receive_buffer, &message);

	if (rc == -EAGAIN)
		return false;
	if (rc == 0 && streamer->stopping) {
		connection->read_all = true;
		return false;
	}
	if (rc != 1) {
		metrics_add(METRIC_MESSAGE_MALFORMED, rc == 0 ? 0 : 1);
		connection_close(connection, rc == 0 ? "closed" : "message-malformed");
		return false;
	}
	streamer->gate = connection->number;
	if (message.type == MESSAGE_HANDOFF)
		handoff_take(streamer, &message);
	else if (message.type == MESSAGE_DIALER_CHANNEL)
		take_dialer_channel(streamer, &message);
	else if (message.type == MESSAGE_LAUNCHER_CHANNEL)
		take_launcher_channel(streamer, &message);
	else if (message.type == MESSAGE_STREAMER_PING)
		answer_ping(connection, &message);
	message_close_fds(&message);
	return connection->channel.fd >= 0;
}

/* Messages up to MESSAGES_AT_ONCE; the loop comes back for the rest. */
static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct control_connection *connection = watcher->data;

	(void)loop;
	if (revents & EV_READ)
		for (int i = 0; i < MESSAGES_AT_ONCE && take_message(connection); i++)
			;
	if ((revents & EV_WRITE) && connection->channel.fd >= 0)
		tell_ended(connection);
}

static struct control_connection *connection_free_slot(struct control *control)
{
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connections[i].channel.fd < 0)
			return &control->connections[i];
	return NULL;
}

static bool is_gate(const struct control *control, int fd)
{
	struct ucred peer;

	return peer_credentials(fd, &peer) == 0 && peer.uid == control->gate_uid;
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct control *control = watcher->data;
	struct control_connection *connection;
	int fd FD_CLEANUP = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)revents;
	if (fd < 0)
		return;
	if (!is_gate(control, fd)) {
		metrics_add(METRIC_PEER_FORBIDDEN, 1);
		log_event(LOG_WARNING, "gate-refused", LOG_STR("reason", "peer-forbidden"));
		return;
	}
	connection = connection_free_slot(control);
	if (connection == NULL) {
		log_event(LOG_WARNING, "gate-refused", LOG_STR("reason", "too-many-connections"));
		return;
	}
	connection->channel.fd = fd;
	fd = -1;
	int announced = metrics_announce(&connection->channel, config_sections_id(control->streamer->config));
	if (announced == -EPIPE) {
		/* It connected before we listened, saw that the socket was still its maker's, and went away again. */
		channel_close(&connection->channel);
		return;
	}
	metrics_add(METRIC_GATE_CONNECTIONS, 1);
	log_event(LOG_INFO, "gate-connected");
	connection->number = ++control->last_number;
	connection->read_all = false;
	if (announced != 0)
		log_event(LOG_WARNING, "metrics-not-shared", LOG_STR("error", strerror(-announced)));
	ev_io_init(&connection->watcher, on_ready, connection->channel.fd, EV_READ);
	connection->watcher.data = connection;
	ev_io_start(loop, &connection->watcher);
}

void control_init(struct control *control, struct streamer *streamer, int listen_fd, uid_t gate_uid)
{
	*control = (struct control){.streamer = streamer, .gate_uid = gate_uid};
	the_control = control;
	streamer->ended = on_ended;
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
		control->connections[i].control = control;
		control->connections[i].channel = (struct channel){.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_GATE};
	}
	ev_io_init(&control->listener, on_connection, listen_fd, EV_READ);
	control->listener.data = control;
	ev_io_start(streamer->loop, &control->listener);
	ev_prepare_init(&control->before_waiting, before_waiting);
	control->before_waiting.data = control;
	ev_prepare_start(streamer->loop, &control->before_waiting);
}

void control_stop(struct control *control)
{
	static const struct message_stopping stopping;

	ev_io_stop(control->streamer->loop, &control->listener);
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
		struct control_connection *connection = &control->connections[i];

		if (connection->channel.fd < 0)
			continue;
		/* What is on its way is still delivered; what is sent from now on fails at the gate, which then knows.
		 */
		(void)channel_send(&connection->channel, MESSAGE_STOPPING, &stopping, NULL, 0, NULL, 0);
		(void)shutdown(connection->channel.fd, SHUT_RD);
		while (take_message(connection))
			;
		if (connection->channel.fd >= 0)
			watch(connection);
	}
}
