/* SPDX-License-Identifier: Apache-2.0
 *
 * Resolver: c-ares tells which of its sockets it waits for and until when; libev does the waiting.
 */
#include "resolver.h"

#include <stdlib.h>
#include <sys/time.h>

#include "daemon/common/log.h"

/* Milliseconds a name server has for its first answer, and how often one is asked. */
#define QUERY_TIMEOUT_MS 2000
#define QUERY_TRIES      3

struct watched {
	ev_io io;
	struct watched *next;
};

static struct ev_loop *loop;
static ares_channel resolver;
static struct watched *watched_sockets;
static ev_timer timeout;

static void schedule_timeout(void)
{
	struct timeval buffer;
	const struct timeval *wait = ares_timeout(resolver, NULL, &buffer);

	ev_timer_stop(loop, &timeout);
	if (wait == NULL)
		return;
	ev_timer_set(&timeout, (double)wait->tv_sec + (double)wait->tv_usec / 1e6, 0.);
	ev_timer_start(loop, &timeout);
}

static void on_socket(struct ev_loop *unused, ev_io *watcher, int events)
{
	(void)unused;
	ares_process_fd(resolver, (events & EV_READ) != 0 ? watcher->fd : ARES_SOCKET_BAD,
	                (events & EV_WRITE) != 0 ? watcher->fd : ARES_SOCKET_BAD);
	schedule_timeout();
}

static void on_timeout(struct ev_loop *unused, ev_timer *watcher, int events)
{
	(void)unused;
	(void)watcher;
	(void)events;
	ares_process_fd(resolver, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	schedule_timeout();
}

static void forget(struct watched **place)
{
	struct watched *watched = *place;

	*place = watched->next;
	ev_io_stop(loop, &watched->io);
	free(watched);
}

/* c-ares has other wishes for a socket of its own; none at all when it is about to close it. */
static void on_wishes(void *unused, ares_socket_t fd, int readable, int writable)
{
	struct watched **place = &watched_sockets;
	int events = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);

	(void)unused;
	while (*place != NULL && (*place)->io.fd != fd)
		place = &(*place)->next;
	if (*place != NULL)
		forget(place);
	if (events == 0)
		return;

	struct watched *watched = calloc(1, sizeof(*watched));
	if (watched == NULL) {
		/* The query ends by its time-out. */
		log_event(LOG_ERR, "no-memory");
		return;
	}
	ev_io_init(&watched->io, on_socket, fd, events);
	ev_io_start(loop, &watched->io);
	watched->next = watched_sockets;
	watched_sockets = watched;
}

int resolver_init(struct ev_loop *event_loop)
{
	struct ares_options options = {
	    .sock_state_cb = on_wishes,
	    .timeout = QUERY_TIMEOUT_MS,
	    .tries = QUERY_TRIES,
	};
	int status = ares_library_init(ARES_LIB_INIT_ALL);

	loop = event_loop;
	ev_init(&timeout, on_timeout);
	if (status != ARES_SUCCESS)
		return status;
	return ares_init_options(&resolver, &options, ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
}

void resolver_lookup(const char *host, ares_addrinfo_callback callback, void *data)
{
	const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

	ares_getaddrinfo(resolver, host, NULL, &hints, callback, data);
	schedule_timeout();
}
