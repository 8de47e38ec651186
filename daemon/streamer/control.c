/* SPDX-License-Identifier: Apache-2.0
 *
 * Control: see control.h.
 */
#include "control.h"

#include <errno.h>
#include <sys/socket.h>

#include "backend.h"
#include "daemon/common/log.h"
#include "handoff.h"

#define MESSAGES_AT_ONCE 32 /* before the streams get their turn */

static char receive_buffer[MESSAGE_MAX];

static void connection_close(struct control_connection *connection, const char *why)
{
	log_event(LOG_NOTICE, "gate-disconnected", LOG_STR("reason", why));
	ev_io_stop(connection->control->streamer->loop, &connection->watcher);
	channel_close(&connection->channel);
}

static void take_dialer_channel(struct streamer *streamer, struct message *message)
{
	if (!streamer->ops->has_upstream)
		return; /* nothing to dial: the channel is closed */
	dial_set_channel(&streamer->dialer, message->fds[0]);
	message->fds[0] = -1;
	log_event(LOG_INFO, "dialer-introduced");
}

/* Messages up to MESSAGES_AT_ONCE; the loop comes back for the rest. */
static void on_message(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct control_connection *connection = watcher->data;
	struct streamer *streamer = connection->control->streamer;
	struct message message;

	(void)loop;
	(void)revents;
	for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
		int rc = channel_receive(&connection->channel, receive_buffer, &message);

		if (rc == -EAGAIN)
			return;
		if (rc != 1) {
			metrics_add(METRIC_MESSAGE_MALFORMED, rc == 0 ? 0 : 1);
			connection_close(connection, rc == 0 ? "closed" : "message-malformed");
			return;
		}
		if (message.type == MESSAGE_HANDOFF)
			handoff_take(streamer, &message);
		else if (message.type == MESSAGE_DIALER_CHANNEL)
			take_dialer_channel(streamer, &message);
		message_close_fds(&message);
	}
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
	metrics_add(METRIC_GATE_CONNECTIONS, 1);
	log_event(LOG_INFO, "gate-connected");
	connection->channel.fd = fd;
	fd = -1;
	int announced = metrics_announce(&connection->channel);
	if (announced != 0)
		log_event(LOG_WARNING, "metrics-not-shared", LOG_STR("error", strerror(-announced)));
	ev_io_init(&connection->watcher, on_message, connection->channel.fd, EV_READ);
	connection->watcher.data = connection;
	ev_io_start(loop, &connection->watcher);
}

void control_init(struct control *control, struct streamer *streamer, int listen_fd, uid_t gate_uid)
{
	*control = (struct control){.streamer = streamer, .gate_uid = gate_uid};
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
		control->connections[i].control = control;
		control->connections[i].channel = (struct channel){.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_GATE};
	}
	ev_io_init(&control->listener, on_connection, listen_fd, EV_READ);
	control->listener.data = control;
	ev_io_start(streamer->loop, &control->listener);
}
