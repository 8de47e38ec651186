/* SPDX-License-Identifier: Apache-2.0
 *
 * Introductions: who there is, and who gets to know whom.
 */
#include "introduce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/common/log.h"
#include "daemon/common/role.h"
#include "peer.h"
#include "pool.h"

/* Seconds that the gate waits for the others before it takes handoffs: those for a pool that is there do not wait long
 * for one that is not. */
#define SETTLE_MAX 0.5

static void settle(struct gate *gate)
{
	void (*settled)(struct gate *) = gate->settled;

	ev_timer_stop(gate->loop, &gate->settling);
	gate->settled = NULL;
	if (settled != NULL)
		settled(gate);
}

static void settle_when_complete(struct gate *gate)
{
	if (gate->settled == NULL || !peer_connected(gate->dialer))
		return;
	for (size_t i = 0; i < gate->config->n_handlers; i++)
		if (!peer_connected(&gate->launchers[i]))
			return;
	for (size_t i = 0; i < gate->config->n_backends; i++)
		for (size_t k = 0; k < gate->pools[i].n_workers; k++)
			if (!peer_connected(&gate->pools[i].workers[k]))
				return;
	settle(gate);
}

static void on_settle_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	settle(watcher->data);
}

/* Whom a streamer gets to know; NULL for nobody. */
static struct peer *partner_of(const struct peer *streamer)
{
	const struct gate *gate = streamer->gate;
	const struct config_backend *backend = &gate->config->backends[streamer->backend];

	switch (backend->type) {
	case BACKEND_OPENAI:
		return gate->dialer;
	case BACKEND_HANDLER:
		return &gate->launchers[backend->handler];
	case BACKEND_DEMO:
	default:
		return NULL;
	}
}

/* The two messages with an end of the pair each. 0 or -errno. */
static int send_ends(struct peer *streamer, struct peer *partner, const int pair[2])
{
	const struct message_streamer_channel to_partner = {
	    .backend = (uint32_t)streamer->backend,
	    .worker = (uint32_t)streamer->worker,
	};
	static const struct message_dialer_channel dialer_channel;
	static const struct message_launcher_channel launcher_channel;
	bool is_dialer = partner->role == ROLE_DIALER;
	/* The partner first: its end waits there for what the streamer asks. */
	int result = peer_send(partner, is_dialer ? MESSAGE_STREAMER_CHANNEL : MESSAGE_LAUNCHER_STREAMER, &to_partner,
	                       NULL, 0, &pair[0], 1);

	if (result < 0)
		return result;
	return is_dialer ? peer_send(streamer, MESSAGE_DIALER_CHANNEL, &dialer_channel, NULL, 0, &pair[1], 1)
	                 : peer_send(streamer, MESSAGE_LAUNCHER_CHANNEL, &launcher_channel, NULL, 0, &pair[1], 1);
}

/* A streamer that could not be told, or about whom its partner could not be told, is closed, so that both start over.
 */
static void introduce(struct peer *streamer)
{
	struct peer *partner = partner_of(streamer);
	int pair[2] = {-1, -1};
	int result = 0;

	if (partner == NULL || !peer_connected(streamer) || !peer_connected(partner))
		return;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		result = -errno;
	if (result == 0)
		result = send_ends(streamer, partner, pair);
	fd_close_all(pair, 2);
	if (result == 0)
		return;
	log_event(LOG_WARNING, "introduction-failed", LOG_INT("backend", streamer->backend),
	          LOG_INT("worker", streamer->worker), LOG_STR("detail", strerror(-result)));
	peer_reconnect(streamer);
}

static void on_streamer_connected(struct peer *streamer)
{
	introduce(streamer);
	pool_changed(&streamer->gate->pools[streamer->backend]);
	settle_when_complete(streamer->gate);
}

static void on_streamer_changed(struct peer *streamer)
{
	pool_changed(&streamer->gate->pools[streamer->backend]);
}

static void on_partner_connected(struct peer *partner)
{
	struct gate *gate = partner->gate;

	for (size_t i = 0; i < gate->config->n_backends; i++)
		for (size_t k = 0; k < gate->pools[i].n_workers; k++)
			if (partner_of(&gate->pools[i].workers[k]) == partner)
				introduce(&gate->pools[i].workers[k]);
	settle_when_complete(gate);
}

static void on_partner_changed(struct peer *partner)
{
	/* Streamers see the end of their channel to it by themselves. */
	(void)partner;
}

static void init_partner(struct peer *partner, struct gate *gate, enum role role, const struct config_user *user)
{
	peer_init(partner, gate, role, role_expected_uid(user));
	partner->on_connected = on_partner_connected;
	partner->on_lost = on_partner_changed;
	partner->on_writable = on_partner_changed;
}

static int init_partners(struct gate *gate)
{
	const struct config *config = gate->config;
	int result;

	gate->dialer = calloc(1, sizeof(*gate->dialer));
	gate->launchers = calloc(config->n_handlers + 1, sizeof(*gate->launchers));
	if (gate->dialer == NULL || gate->launchers == NULL)
		return -ENOMEM;
	init_partner(gate->dialer, gate, ROLE_DIALER, &config->user[ROLE_DIALER]);
	result = config_dialer_socket(config, gate->dialer->path);
	for (size_t i = 0; i < config->n_handlers && result == 0; i++) {
		init_partner(&gate->launchers[i], gate, ROLE_LAUNCHER, &config->handlers[i].user);
		gate->launchers[i].handler = i;
		result = config_launcher_socket(config, i, gate->launchers[i].path);
	}
	return result;
}

static int init_pool(struct gate *gate, size_t backend)
{
	const struct config_backend *section = &gate->config->backends[backend];
	struct pool *pool = &gate->pools[backend];

	pool->workers = calloc(section->workers, sizeof(*pool->workers));
	if (pool->workers == NULL)
		return -ENOMEM;
	pool->n_workers = section->workers;
	for (size_t i = 0; i < section->workers; i++) {
		struct peer *streamer = &pool->workers[i];

		peer_init(streamer, gate, ROLE_STREAMER, role_expected_uid(&section->user));
		streamer->backend = backend;
		streamer->worker = i;
		streamer->on_connected = on_streamer_connected;
		streamer->on_lost = on_streamer_changed;
		streamer->on_writable = on_streamer_changed;
		int result = config_streamer_socket(gate->config, backend, i, streamer->path);
		if (result < 0)
			return result;
	}
	return 0;
}

int introduce_init(struct gate *gate, void (*on_room)(struct list *node))
{
	int result = init_partners(gate);

	if (result < 0)
		return result;
	gate->pools = calloc(gate->config->n_backends + 1, sizeof(*gate->pools));
	if (gate->pools == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < gate->config->n_backends; i++) {
		pool_init(&gate->pools[i], gate, i, on_room);
		result = init_pool(gate, i);
		if (result < 0)
			return result;
	}
	return 0;
}

void introduce_start(struct gate *gate, void (*settled)(struct gate *gate))
{
	gate->settled = settled;
	ev_timer_init(&gate->settling, on_settle_end, SETTLE_MAX, 0.);
	gate->settling.data = gate;
	ev_timer_start(gate->loop, &gate->settling);
	peer_start(gate->dialer);
	for (size_t i = 0; i < gate->config->n_handlers; i++)
		peer_start(&gate->launchers[i]);
	for (size_t i = 0; i < gate->config->n_backends; i++)
		for (size_t k = 0; k < gate->pools[i].n_workers; k++)
			peer_start(&gate->pools[i].workers[k]);
}

void introduce_stop(struct gate *gate)
{
	for (size_t i = 0; i < gate->config->n_backends; i++) {
		pool_stop(&gate->pools[i]);
		for (size_t k = 0; k < gate->pools[i].n_workers; k++)
			peer_stop(&gate->pools[i].workers[k]);
	}
	for (size_t i = 0; i < gate->config->n_handlers; i++)
		peer_stop(&gate->launchers[i]);
	peer_stop(gate->dialer);
}
