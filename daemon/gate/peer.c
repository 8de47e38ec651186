/* SPDX-License-Identifier: Apache-2.0
 *
 * Peer: connecting to another role and noticing when it goes.
 */
#include "peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

/* Seconds. A role that was just lost is often back at once; one that is not costs little to ask for. */
#define PAUSE_FIRST 0.002
#define PAUSE_START 0.02
#define PAUSE_MAX   1.0
#define LIVED_LONG  1.0

/* A connection whose other end has the right uid, or -errno. A unix socket connects at once or not at all. */
static int connect_verified(const struct peer *peer)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred credentials;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int result = 0;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, peer->path, sizeof(address.sun_path));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		result = -errno;
	if (result == 0)
		result = peer_credentials(fd, &credentials);
	/* Until a role has called listen() itself, the credentials are those of whoever made the socket. */
	if (result == 0 && credentials.uid != peer->uid)
		result = -EACCES;
	if (result < 0) {
		fd_close(&fd);
		return result;
	}
	return fd;
}

static void log_peer(const struct peer *peer, int severity, const char *event, const char *detail)
{
	if (peer->role == ROLE_STREAMER)
		log_event(severity, event, LOG_STR("role", role_name(peer->role)),
		          LOG_STR("backend", peer->gate->config->backends[peer->backend].name),
		          LOG_INT("worker", peer->worker), LOG_STR("detail", detail));
	else
		log_event(severity, event, LOG_STR("role", role_name(peer->role)), LOG_STR("detail", detail));
}

static void schedule(struct peer *peer)
{
	ev_timer_stop(peer->gate->loop, &peer->retry);
	ev_timer_set(&peer->retry, peer->pause, 0.);
	ev_timer_start(peer->gate->loop, &peer->retry);
	peer->pause = peer->pause < PAUSE_START ? PAUSE_START : peer->pause * 2;
	if (peer->pause > PAUSE_MAX)
		peer->pause = PAUSE_MAX;
}

static void disconnect(struct peer *peer)
{
	ev_io_stop(peer->gate->loop, &peer->readable);
	ev_io_stop(peer->gate->loop, &peer->writable);
	channel_close(&peer->channel);
	peer->busy = false;
}

/* Close and try again. */
static void lose(struct peer *peer, const char *why)
{
	disconnect(peer);
	log_peer(peer, LOG_WARNING, "peer-lost", why);
	/* One that comes and goes at once is not asked without pause. */
	if (ev_now(peer->gate->loop) - peer->connected_at > LIVED_LONG)
		peer->pause = PAUSE_FIRST;
	schedule(peer);
}

static void try_connect(struct peer *peer)
{
	int fd = connect_verified(peer);

	if (fd < 0) {
		/* Once at the third attempt, not at each: at start every role waits for some other. */
		if (peer->pause >= 4 * PAUSE_START && !peer->complained) {
			peer->complained = true;
			log_peer(peer, LOG_WARNING, "peer-unreachable", strerror(-fd));
		}
		schedule(peer);
		return;
	}
	peer->channel.fd = fd;
	peer->announced = false;
	peer->connected_at = ev_now(peer->gate->loop);
	peer->complained = false;
	ev_io_set(&peer->readable, fd, EV_READ);
	ev_io_set(&peer->writable, fd, EV_WRITE);
	ev_io_start(peer->gate->loop, &peer->readable);
	log_peer(peer, LOG_INFO, "peer-connected", peer->path);
	peer->on_connected(peer);
}

static void on_retry(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	try_connect(watcher->data);
}

/* A page of counters is all that a peer has to say, once. Returns whether it was that. */
static bool take_page(struct peer *peer, struct message *message)
{
	struct message_metrics body;
	int result = -EPROTO;

	if (peer->announced)
		return false;
	peer->announced = true;
	/* The table in messages.h lets nothing else come in here. */
	memcpy(&body, message->body, sizeof(body));
	if (body.layout == metrics_layout()) {
		result = account_take(&peer->account, message->fds[0]);
		message->fds[0] = -1;
	}
	/* Clients can be served without. */
	if (result < 0)
		log_peer(peer, LOG_WARNING, "metrics-refused", strerror(-result));
	return true;
}

/* Else nobody has anything to say to the gate: this is the end of file or a peer that breaks the rules. */
static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct peer *peer = watcher->data;
	struct message message;
	int result = channel_receive(&peer->channel, buffer, &message);

	(void)loop;
	(void)events;
	if (result == -EAGAIN)
		return;
	bool was_page = result > 0 && take_page(peer, &message);
	if (result > 0)
		message_close_fds(&message);
	if (was_page)
		return;
	metrics_add(METRIC_MESSAGE_MALFORMED, result == 0 ? 0 : 1);
	lose(peer, result == 0 ? "closed" : strerror(result < 0 ? -result : EBADMSG));
	peer->on_lost(peer);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct peer *peer = watcher->data;

	(void)events;
	ev_io_stop(loop, watcher);
	peer->busy = false;
	peer->on_writable(peer);
}

void peer_init(struct peer *peer, struct gate *gate, enum role role, uid_t uid)
{
	*peer = (struct peer){
	    .gate = gate,
	    .role = role,
	    .uid = uid,
	    .channel = {.fd = -1, .self = ROLE_GATE, .peer = role},
	    .pause = PAUSE_FIRST,
	};
	account_init(&peer->account);
	ev_init(&peer->readable, on_readable);
	ev_init(&peer->writable, on_writable);
	ev_init(&peer->retry, on_retry);
	peer->readable.data = peer;
	peer->writable.data = peer;
	peer->retry.data = peer;
}

void peer_start(struct peer *peer)
{
	try_connect(peer);
}

int peer_send(struct peer *peer, enum message_type type, const void *body, const struct span *more, size_t n_more,
              const int *fds, size_t n_fds)
{
	int result = channel_send(&peer->channel, type, body, more, n_more, fds, n_fds);

	switch (result) {
	case 0:
	case -EINVAL:
	case -ETOOMANYREFS:
	case -ENOBUFS:
	case -ENOMEM:
		/* Sent, or nothing that another connection would change. */
		break;
	case -EAGAIN:
		peer->busy = true;
		ev_io_start(peer->gate->loop, &peer->writable);
		break;
	default:
		lose(peer, strerror(-result));
	}
	return result;
}

void peer_reconnect(struct peer *peer)
{
	if (peer->channel.fd >= 0)
		lose(peer, "made anew");
}

void peer_stop(struct peer *peer)
{
	ev_timer_stop(peer->gate->loop, &peer->retry);
	disconnect(peer);
}
