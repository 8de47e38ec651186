/* SPDX-License-Identifier: Apache-2.0
 *
 * Listener: accepting modules, by uid, within the number of slots.
 */
#include "listener.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "lib/fdpass.h"
#include "lib/wire.h"

/* Connections taken at a time, so that those that are open get their turn. */
#define ACCEPT_BATCH         16
/* Seconds without accept() when there are no descriptors or no memory for it. */
#define ACCEPT_PAUSE         0.1
/* Seconds a connection must have been silent before another may have its slot. */
#define SILENT_ENOUGH        0.5
/* Descriptors that are no connections: log, event loop, listeners, the dialer, what is just being accepted. */
#define DESCRIPTORS_RESERVED 64

static bool peer_allowed(const struct config_listen *config, uid_t uid)
{
	for (size_t i = 0; i < config->n_allow_peer; i++)
		if (config->allow_peer[i] == uid)
			return true;
	return false;
}

static void count_rejected(enum reason reason)
{
	metrics_add(METRIC_CONNECTIONS_REJECTED, 1);
	metrics_count(METRIC_HANDOFF_ERRORS, reason);
}

/* Whether the peer may hand off clients here; if not, the refusal is counted and logged. */
static bool check_peer(const struct listener *listener, int fd)
{
	struct ucred credentials = {.uid = (uid_t)-1};
	int result = peer_credentials(fd, &credentials);

	if (result == 0 && peer_allowed(listener->config, credentials.uid))
		return true;
	count_rejected(REASON_PEER_FORBIDDEN);
	log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(REASON_PEER_FORBIDDEN)),
	          LOG_STR("listener", listener->config->path), LOG_INT("uid", credentials.uid));
	return false;
}

/* Whether there is a slot, after closing the longest silent connection if need be. */
static bool make_slot(struct listener *listener)
{
	struct connection *silent;

	if (listener->n_connections < listener->slots)
		return true;
	silent = LIST_ENTRY(listener->connections.next, struct connection, node);
	if (ev_now(listener->gate->loop) - silent->used < SILENT_ENOUGH) {
		count_rejected(REASON_RATE_LIMITED);
		log_event(LOG_WARNING, "refused", LOG_STR("reason", reason_name(REASON_RATE_LIMITED)),
		          LOG_STR("listener", listener->config->path), LOG_INT("connections", listener->n_connections));
		return false;
	}
	log_event(LOG_DEBUG, "slot-reused", LOG_STR("listener", listener->config->path));
	connection_abandon(silent, REASON_RATE_LIMITED);
	return true;
}

/* accept() fails again at once while what it lacks is lacking, so the socket is left alone for a moment. */
static void pause_accepting(struct listener *listener, int error)
{
	log_event(LOG_ERR, "accept-failed", LOG_STR("listener", listener->config->path),
	          LOG_STR("error", strerror(error)));
	ev_io_stop(listener->gate->loop, &listener->acceptable);
	ev_timer_set(&listener->pause, ACCEPT_PAUSE, 0.);
	ev_timer_start(listener->gate->loop, &listener->pause);
}

static void on_pause_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct listener *listener = watcher->data;

	(void)events;
	ev_io_start(loop, &listener->acceptable);
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct listener *listener = watcher->data;

	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd FD_CLEANUP = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN)
				pause_accepting(listener, errno);
			return;
		}
		if (!check_peer(listener, fd) || !make_slot(listener))
			continue;
		if (connection_open(listener, fd) < 0)
			return pause_accepting(listener, ENOMEM);
		fd = -1;
	}
}

/* This listener's share of the descriptors that may be open. Each handoff needs three for a moment, and the other roles
 * have theirs. A legacy connection keeps its client. */
static size_t count_slots(const struct gate *gate, size_t wanted, bool legacy)
{
	struct rlimit limit;
	/* Each launcher has a connection and a page of counters, and so has one that is being replaced. */
	size_t reserved = DESCRIPTORS_RESERVED + 4 * gate->config->n_handlers;

	for (size_t i = 0; i < gate->config->n_backends; i++)
		/* A connection and a page of counters for each, and for one that is being replaced. */
		reserved += 4 * gate->config->backends[i].workers + WIRE_FDS_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max == RLIM_INFINITY)
		return wanted;

	size_t left = limit.rlim_max > reserved ? limit.rlim_max - reserved : 0;
	size_t share = left / gate->config->n_listens / (legacy ? 2 : 1);

	if (share >= wanted)
		return wanted;
	log_event(LOG_WARNING, "slots-reduced", LOG_INT("wanted", wanted), LOG_INT("descriptors", limit.rlim_max),
	          LOG_INT("slots", share > 0 ? share : 1));
	return share > 0 ? share : 1;
}

int listener_init(struct listener *listener, struct gate *gate, size_t index, int fd)
{
	socklen_t len = sizeof(listener->netns_cookie);

	*listener = (struct listener){.gate = gate, .index = index, .config = &gate->config->listens[index], .fd = fd};
	listener->slots = count_slots(gate, listener->config->max_connections, listener->config->legacy);
	limiter_init(&listener->limiter, listener->config);
	list_init(&listener->connections);
	ev_io_init(&listener->acceptable, on_acceptable, fd, EV_READ);
	ev_init(&listener->pause, on_pause_end);
	listener->acceptable.data = listener;
	listener->pause.data = listener;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &listener->netns_cookie, &len) < 0)
		return -errno;
	return 0;
}

void listener_start(struct listener *listener)
{
	ev_io_start(listener->gate->loop, &listener->acceptable);
}

void listener_stop(struct listener *listener)
{
	ev_io_stop(listener->gate->loop, &listener->acceptable);
	ev_timer_stop(listener->gate->loop, &listener->pause);
	while (!list_empty(&listener->connections))
		connection_abandon(LIST_ENTRY(listener->connections.next, struct connection, node), REASON_STOPPING);
}
