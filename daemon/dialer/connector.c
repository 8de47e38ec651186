/* SPDX-License-Identifier: Apache-2.0
 *
 * Connector: resolving and connecting one upstream.
 */
#include "connector.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/common/log.h"
#include "lib/fdpass.h"
#include "resolver.h"

struct connector {
	struct ev_loop *loop;
	const struct config_upstream *upstream;
	connector_done *done;
	void *data;
	bool resolving; /* c-ares still holds a pointer to this */
	bool finished;  /* nobody waits for it any more */
	struct ares_addrinfo *addresses;
	struct ares_addrinfo_node *next; /* address to try next */
	int error;                       /* of the address tried last */
	int fd;
	ev_io connected;
	ev_timer attempt;  /* time for one address */
	ev_timer deadline; /* time for all */
	ev_timer start;    /* so that done is never called from within connector_start() */
};

static void stop(struct connector *connector)
{
	ev_io_stop(connector->loop, &connector->connected);
	ev_timer_stop(connector->loop, &connector->attempt);
	ev_timer_stop(connector->loop, &connector->deadline);
	ev_timer_stop(connector->loop, &connector->start);
	fd_close(&connector->fd);
	if (connector->addresses != NULL)
		ares_freeaddrinfo(connector->addresses);
	connector->addresses = NULL;
	connector->next = NULL;
	connector->finished = true;
	/* A single lookup cannot be called off: its end frees the rest. */
	if (!connector->resolving)
		free(connector);
}

static void fail(struct connector *connector, int error, const char *why)
{
	connector_done *done = connector->done;
	void *data = connector->data;

	log_event(LOG_WARNING, "dial-failed", LOG_STR("upstream", connector->upstream->name), LOG_STR("error", why));
	stop(connector);
	done(data, -1, error);
}

static void succeed(struct connector *connector)
{
	connector_done *done = connector->done;
	void *data = connector->data;
	int fd = connector->fd;

	connector->fd = -1;
	stop(connector);
	done(data, fd, 0);
}

/* A non-blocking socket that connects to an address, or -errno. */
static int begin_connect(const struct ares_addrinfo_node *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, address->ai_addr, address->ai_addrlen) < 0 && errno != EINPROGRESS) {
		int error = -errno;

		fd_close(&fd);
		return error;
	}
	return fd;
}

static size_t count_addresses(const struct ares_addrinfo_node *address)
{
	size_t n = 0;

	for (; address != NULL; address = address->ai_next)
		n++;
	return n;
}

/* Try what is left; every address gets its share of the time that is left. */
static void try_next(struct connector *connector)
{
	ev_io_stop(connector->loop, &connector->connected);
	ev_timer_stop(connector->loop, &connector->attempt);
	fd_close(&connector->fd);
	while (connector->next != NULL) {
		size_t left = count_addresses(connector->next);
		int fd = begin_connect(connector->next);

		connector->next = connector->next->ai_next;
		if (fd < 0) {
			connector->error = fd;
			continue;
		}
		connector->fd = fd;
		ev_io_set(&connector->connected, fd, EV_WRITE);
		ev_io_start(connector->loop, &connector->connected);
		if (left > 1) {
			double share = ev_timer_remaining(connector->loop, &connector->deadline) / (double)left;

			ev_timer_set(&connector->attempt, share > 0. ? share : 0., 0.);
			ev_timer_start(connector->loop, &connector->attempt);
		}
		return;
	}
	fail(connector, connector->error, strerror(-connector->error));
}

static void on_connected(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct connector *connector = watcher->data;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)loop;
	(void)events;
	if (getsockopt(connector->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0)
		return succeed(connector);
	connector->error = -error;
	try_next(connector);
}

static void on_attempt_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct connector *connector = watcher->data;

	(void)loop;
	(void)events;
	connector->error = -ETIMEDOUT;
	try_next(connector);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct connector *connector = watcher->data;

	(void)loop;
	(void)events;
	fail(connector, -ETIMEDOUT, connector->resolving ? "the name was not resolved in time" : strerror(ETIMEDOUT));
}

static void on_resolved(void *data, int status, int timeouts, struct ares_addrinfo *addresses)
{
	struct connector *connector = data;

	(void)timeouts;
	connector->resolving = false;
	if (connector->finished) {
		if (addresses != NULL)
			ares_freeaddrinfo(addresses);
		free(connector);
		return;
	}
	if (status != ARES_SUCCESS || addresses == NULL || addresses->nodes == NULL) {
		if (addresses != NULL)
			ares_freeaddrinfo(addresses);
		fail(connector, status == ARES_ENOMEM ? -ENOMEM : -EHOSTUNREACH, ares_strerror(status));
		return;
	}
	connector->addresses = addresses;
	connector->next = addresses->nodes;
	try_next(connector);
}

static void on_start(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct connector *connector = watcher->data;

	(void)loop;
	(void)events;
	connector->resolving = true;
	resolver_lookup(connector->upstream->host, connector->upstream->port, on_resolved, connector);
}

struct connector *connector_start(struct ev_loop *loop, const struct config_upstream *upstream, connector_done *done,
                                  void *data)
{
	struct connector *connector = calloc(1, sizeof(*connector));

	if (connector == NULL)
		return NULL;
	connector->loop = loop;
	connector->upstream = upstream;
	connector->done = done;
	connector->data = data;
	connector->error = -EHOSTUNREACH;
	connector->fd = -1;
	ev_init(&connector->connected, on_connected);
	ev_init(&connector->attempt, on_attempt_end);
	ev_timer_init(&connector->deadline, on_deadline, upstream->connect_timeout_ms / 1000., 0.);
	ev_timer_init(&connector->start, on_start, 0., 0.);
	connector->connected.data = connector;
	connector->attempt.data = connector;
	connector->deadline.data = connector;
	connector->start.data = connector;
	ev_timer_start(loop, &connector->deadline);
	ev_timer_start(loop, &connector->start);
	return connector;
}

void connector_cancel(struct connector *connector)
{
	stop(connector);
}
