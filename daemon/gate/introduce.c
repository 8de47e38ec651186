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

static bool needs_dialer(const struct peer *streamer)
{
	return streamer->gate->config->backends[streamer->backend].type != BACKEND_DEMO;
}

/* A streamer or dialer that could not be told is closed, so that both start over. */
static void introduce(struct peer *streamer, struct peer *dialer)
{
	struct message_dialer_channel to_streamer = {{0}};
	struct message_streamer_channel to_dialer = {
	    .backend = (uint32_t)streamer->backend,
	    .worker = (uint32_t)streamer->worker,
	};
	int pair[2] = {-1, -1};
	int result = 0;

	if (!peer_connected(streamer) || !peer_connected(dialer) || !needs_dialer(streamer))
		return;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		result = -errno;
	/* The dialer first: its end waits there for what the streamer asks. */
	if (result == 0)
		result = peer_send(dialer, MESSAGE_STREAMER_CHANNEL, &to_dialer, NULL, 0, &pair[0], 1);
	if (result == 0)
		result = peer_send(streamer, MESSAGE_DIALER_CHANNEL, &to_streamer, NULL, 0, &pair[1], 1);
	fd_close_all(pair, 2);
	if (result == 0)
		return;
	log_event(LOG_WARNING, "introduction-failed", LOG_INT("backend", streamer->backend),
	          LOG_INT("worker", streamer->worker), LOG_STR("detail", strerror(-result)));
	peer_reconnect(streamer);
}

static void on_streamer_connected(struct peer *streamer)
{
	introduce(streamer, streamer->gate->dialer);
	pool_changed(&streamer->gate->pools[streamer->backend]);
	settle_when_complete(streamer->gate);
}

static void on_streamer_changed(struct peer *streamer)
{
	pool_changed(&streamer->gate->pools[streamer->backend]);
}

static void on_dialer_connected(struct peer *dialer)
{
	struct gate *gate = dialer->gate;

	for (size_t i = 0; i < gate->config->n_backends; i++)
		for (size_t k = 0; k < gate->pools[i].n_workers; k++)
			introduce(&gate->pools[i].workers[k], dialer);
	settle_when_complete(gate);
}

static void on_dialer_changed(struct peer *dialer)
{
	/* Streamers see the end of their channel to it by themselves. */
	(void)dialer;
}

static int init_dialer(struct gate *gate)
{
	gate->dialer = calloc(1, sizeof(*gate->dialer));
	if (gate->dialer == NULL)
		return -ENOMEM;
	peer_init(gate->dialer, gate, ROLE_DIALER, role_expected_uid(&gate->config->user[ROLE_DIALER]));
	gate->dialer->on_connected = on_dialer_connected;
	gate->dialer->on_lost = on_dialer_changed;
	gate->dialer->on_writable = on_dialer_changed;
	return config_dialer_socket(gate->config, gate->dialer->path);
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
	int result = init_dialer(gate);

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
	peer_stop(gate->dialer);
}
