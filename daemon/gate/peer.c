/* SPDX-License-Identifier: Apache-2.0
 *
 * Peer: connecting to another role and noticing when it goes.
 */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "limit.h"

/* Seconds. A role that was just lost is often back at once; one that is not costs little to ask for. */
#define PAUSE_FIRST 0.002
#define PAUSE_START 0.02
#define PAUSE_MAX   1.0
#define LIVED_LONG  1.0

/* A role answers at once, however busy; one that has left so many unanswered hangs. */
#define PING_INTERVAL  1.0
#define PINGS_PATIENCE 15 /* a burst of TLS handshakes on a loaded machine keeps a streamer busy for seconds */

#define RETIRED_MAX 8 /* of one peer; when there are more the first is not heard any more */

/* What each of them is asked, and says. */
static const struct {
	enum message_type announcement;
	enum message_type ping;
	enum message_type pong;
} words[ROLE_COUNT] = {
    [ROLE_STREAMER] = {MESSAGE_STREAMER_METRICS, MESSAGE_STREAMER_PING, MESSAGE_STREAMER_PONG},
    [ROLE_DIALER] = {MESSAGE_DIALER_METRICS, MESSAGE_DIALER_PING, MESSAGE_DIALER_PONG},
    [ROLE_LAUNCHER] = {MESSAGE_LAUNCHER_METRICS, MESSAGE_LAUNCHER_PING, MESSAGE_LAUNCHER_PONG},
};

/* A connection to a process that stops. */
struct retired {
	struct peer *peer;
	struct channel channel;
	struct account_page page;
	void *tickets;
	ev_io readable;
	struct list node;
};

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
	else if (peer->role == ROLE_LAUNCHER)
		log_event(severity, event, LOG_STR("role", role_name(peer->role)),
		          LOG_STR("handler", peer->gate->config->handlers[peer->handler].name),
		          LOG_STR("detail", detail));
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

/* Leave the connection as it is, for whoever has its descriptor now. */
static void forget_connection(struct peer *peer)
{
	ev_io_stop(peer->gate->loop, &peer->readable);
	ev_io_stop(peer->gate->loop, &peer->writable);
	ev_timer_stop(peer->gate->loop, &peer->ping);
	peer->channel.fd = -1;
	peer->announced = false;
	peer->busy = false;
	peer->pings = peer->pongs = 0;
}

static void disconnect(struct peer *peer)
{
	struct channel channel = peer->channel;

	forget_connection(peer);
	channel_close(&channel);
	tickets_end_all(&peer->tickets);
}

static void connect_again(struct peer *peer)
{
	/* One that comes and goes at once is not asked without pause. */
	if (ev_now(peer->gate->loop) - peer->connected_at > LIVED_LONG)
		peer->pause = PAUSE_FIRST;
	schedule(peer);
}

/* Close and try again. */
static void lose(struct peer *peer, const char *why)
{
	disconnect(peer);
	log_peer(peer, LOG_WARNING, "peer-lost", why);
	connect_again(peer);
}

/* Their connections closed without a word, and nobody else knows how many there were. */
static void tell_lost(struct peer *peer)
{
	if (peer->account.lost == 0)
		return;
	metrics_add(METRIC_STREAMS_LOST, peer->account.lost);
	log_event(LOG_ERR, "streams-lost", LOG_STR("backend", peer->gate->config->backends[peer->backend].name),
	          LOG_INT("worker", peer->worker), LOG_INT("streams", peer->account.lost));
	peer->account.lost = 0;
}

/* ---------------------------------------------------------------- what a streamer says */

/* Streams that count have ended. */
static void take_ended(void **tickets, const struct message *message)
{
	for (size_t at = 0; at + sizeof(uint64_t) <= message->more.len; at += sizeof(uint64_t)) {
		uint64_t id;

		memcpy(&id, message->more.data + at, sizeof(id));
		tickets_end(tickets, id);
	}
}

static void retired_close(struct retired *retired)
{
	/* See list_remove(). NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	struct peer *peer = retired->peer;

	ev_io_stop(peer->gate->loop, &retired->readable);
	channel_close(&retired->channel);
	tickets_end_all(&retired->tickets);
	account_settle(&peer->account, &retired->page);
	list_remove(&retired->node);
	peer->n_retired--;
	free(retired);
}

static void on_retired_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct retired *retired = watcher->data;
	struct message message;
	int result = channel_receive(&retired->channel, buffer, &message);

	(void)loop;
	(void)events;
	if (result == -EAGAIN)
		return;
	if (result > 0) {
		message_close_fds(&message);
		if (message.type == MESSAGE_STREAMS_ENDED)
			take_ended(&retired->tickets, &message);
		if (message.type == MESSAGE_STREAMS_ENDED || message.type == MESSAGE_STOPPING ||
		    message.type == MESSAGE_STREAMER_PONG)
			return;
	}

	struct peer *peer = retired->peer;

	retired_close(retired);
	tell_lost(peer);
}

/* It takes nothing more: only listen to it, and connect to whoever takes its place. */
static void retire(struct peer *peer, const char *why)
{
	struct retired *retired = calloc(1, sizeof(*retired));

	if (retired == NULL) {
		lose(peer, why);
		return;
	}
	if (peer->n_retired >= RETIRED_MAX) {
		retired_close(LIST_ENTRY(peer->retired.next, struct retired, node));
		peer->account.lost = 0; /* that one still runs */
	}
	*retired = (struct retired){
	    .peer = peer,
	    .channel = peer->channel,
	    .page = account_part(&peer->account),
	    .tickets = peer->tickets,
	};
	peer->tickets = NULL;
	forget_connection(peer);
	list_append(&peer->retired, &retired->node);
	peer->n_retired++;
	ev_io_init(&retired->readable, on_retired_readable, retired->channel.fd, EV_READ);
	retired->readable.data = retired;
	ev_io_start(peer->gate->loop, &retired->readable);
	log_peer(peer, LOG_INFO, "peer-stopping", why);
	connect_again(peer);
}

void peer_add_retired(const struct peer *peer, uint64_t slots[METRIC_SLOT_COUNT])
{
	for (struct list *node = peer->retired.next; node != &peer->retired; node = node->next)
		account_page_add(&LIST_ENTRY(node, struct retired, node)->page, slots);
}

/* ---------------------------------------------------------------- whether it hangs */

static void on_ping(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct peer *peer = watcher->data;
	struct message_ping body = {.number = peer->pings + 1};

	(void)loop;
	(void)events;
	if (peer->pings - peer->pongs >= PINGS_PATIENCE) {
		metrics_add(METRIC_PEER_HUNG, 1);
		lose(peer, "hangs");
		peer->on_lost(peer);
		return;
	}
	/* Counted also when its buffer is full: it reads nothing. */
	peer->pings++;
	if (!peer->busy && peer_send(peer, words[peer->role].ping, &body, NULL, 0, NULL, 0) != 0 &&
	    peer->channel.fd < 0)
		peer->on_lost(peer);
}

/* An answer to what was not asked is none. */
static int take_pong(struct peer *peer, const struct message *message)
{
	struct message_ping body;

	memcpy(&body, message->body, sizeof(body));
	if (body.number <= peer->pongs || body.number > peer->pings)
		return -EBADMSG;
	peer->pongs = body.number;
	return 0;
}

/* ---------------------------------------------------------------- connecting */

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
	peer->connected_at = ev_now(peer->gate->loop);
	ev_io_set(&peer->readable, fd, EV_READ);
	ev_io_set(&peer->writable, fd, EV_WRITE);
	ev_io_start(peer->gate->loop, &peer->readable);
}

static void on_retry(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	try_connect(watcher->data);
}

/* The first thing that a peer says. 0 or -errno: it is none of ours. */
static int take_announcement(struct peer *peer, struct message *message)
{
	struct message_metrics body;
	int result = -EPROTO;

	/* The table in messages.h has seen to its size. */
	memcpy(&body, message->body, sizeof(body));
	if (body.sections != config_sections_id(peer->gate->config)) {
		if (!peer->complained)
			log_peer(peer, LOG_ERR, "peer-config-differs",
			         "it has read another configuration: restart all");
		peer->complained = true;
		return -ESTALE;
	}
	if (body.layout == metrics_layout()) {
		result = account_take(&peer->account, message->fds[0]);
		message->fds[0] = -1;
		tell_lost(peer);
	}
	/* Clients can be served without. */
	if (result < 0)
		log_peer(peer, LOG_WARNING, "metrics-refused", strerror(-result));
	peer->announced = true;
	peer->complained = false;
	ev_timer_again(peer->gate->loop, &peer->ping);
	log_peer(peer, LOG_INFO, "peer-connected", peer->path);
	peer->on_connected(peer);
	return 0;
}

/* 0, or -errno: the connection must end. */
static int take_message(struct peer *peer, struct message *message)
{
	bool is_announcement = message->type == words[peer->role].announcement;

	if (is_announcement == peer->announced)
		return -EBADMSG;
	if (is_announcement)
		return take_announcement(peer, message);
	if (message->type == MESSAGE_STREAMS_ENDED) {
		take_ended(&peer->tickets, message);
		return 0;
	}
	if (message->type == words[peer->role].pong)
		return take_pong(peer, message);
	retire(peer, "stopping");
	peer->on_lost(peer);
	return 0;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct peer *peer = watcher->data;
	struct message message;
	int result = channel_receive(&peer->channel, buffer, &message);
	const char *why = "closed";

	(void)loop;
	(void)events;
	if (result == -EAGAIN)
		return;
	if (result > 0) {
		result = take_message(peer, &message);
		message_close_fds(&message);
		if (result == 0)
			return;
	}
	if (result < 0)
		why = strerror(-result);
	metrics_add(METRIC_MESSAGE_MALFORMED, result == -EBADMSG ? 1 : 0);
	lose(peer, why);
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
	list_init(&peer->retired);
	ev_init(&peer->readable, on_readable);
	ev_init(&peer->writable, on_writable);
	ev_init(&peer->retry, on_retry);
	ev_init(&peer->ping, on_ping);
	peer->ping.repeat = PING_INTERVAL;
	peer->readable.data = peer;
	peer->writable.data = peer;
	peer->ping.data = peer;
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
	case -EPIPE:
		/* It reads nothing more. What it has to say may be on its way. */
		retire(peer, "reads no more");
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
	while (!list_empty(&peer->retired))
		retired_close(LIST_ENTRY(peer->retired.next, struct retired, node));
}
