/* SPDX-License-Identifier: Apache-2.0
 *
 * Connector: see connector.h.
 */
#include "connector.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "backoff.h"
#include "daemon/common/log.h"
#include "lib/fdpass.h"
#include "names.h"

/* Seconds that an address is ahead of the next one. */
#define STAGGER           0.25
/* Seconds until a unix socket is tried again whose backlog is full. */
#define BACKLOG_PAUSE     0.01
/* Sockets on their way of all upstreams together: half of the descriptors that the policy grants, or fewer. */
#define CONNECTING_MAX    2048
/* An upstream that has vanished from the network is noticed: seconds of silence before the kernel asks, between its
 * questions, and milliseconds without an answer to them or to what was sent. */
#define KEEPALIVE_IDLE    30
#define KEEPALIVE_BETWEEN 10
#define USER_TIMEOUT_MS   60000

/* One socket that connects. */
struct attempt {
	ev_io connected;
	struct connector *connector;
	size_t address;
	int fd; /* -1: none, or none any more */
};

struct connector {
	struct ev_loop *loop;
	const struct config_upstream *upstream;
	struct record *record;
	connector_done *done;
	void *data;
	struct name_wait name;
	struct addresses addresses;
	size_t next; /* address to try next */
	struct attempt attempts[ADDRESSES_MAX];
	size_t n_connecting;
	int error; /* of the attempt that failed last */
	ev_tstamp began;
	ev_timer stagger;  /* until the next address */
	ev_timer deadline; /* time for all */
	ev_timer start;    /* so that done is never called from within connector_start() */
};

/* How each upstream fares, by its number. */
static struct record {
	struct backoff backoff;
	size_t n_sockets; /* on their way */
} records[CONFIG_SECTIONS_MAX];

/* As many may be on their way to one upstream: one that does not answer leaves the others theirs. */
static size_t sockets_max;

void connector_init(const struct config *config)
{
	struct rlimit limit;

	sockets_max = CONNECTING_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max / 2 < sockets_max)
		sockets_max = limit.rlim_max / 2;
	if (config->n_upstreams > 1)
		sockets_max /= config->n_upstreams;
}

static bool is_unix(const struct connector *connector)
{
	return connector->upstream->unix_socket[0] != '\0';
}

/* ---------------------------------------------------------------- the end */

static void attempt_close(struct attempt *attempt)
{
	if (attempt->fd < 0)
		return;
	ev_io_stop(attempt->connector->loop, &attempt->connected);
	fd_close(&attempt->fd);
	attempt->connector->n_connecting--;
	attempt->connector->record->n_sockets--;
}

static void stop(struct connector *connector)
{
	for (size_t i = 0; i < ADDRESSES_MAX; i++)
		attempt_close(&connector->attempts[i]);
	names_cancel(&connector->name);
	ev_timer_stop(connector->loop, &connector->stagger);
	ev_timer_stop(connector->loop, &connector->deadline);
	ev_timer_stop(connector->loop, &connector->start);
	free(connector);
}

static void finish(struct connector *connector, int fd, int error)
{
	connector_done *done = connector->done;
	void *data = connector->data;

	stop(connector);
	done(data, fd, error);
}

static void fail(struct connector *connector, int error, const char *why)
{
	log_event(LOG_WARNING, "dial-failed", LOG_STR("upstream", connector->upstream->name), LOG_STR("error", why));
	backoff_failed(&connector->record->backoff, connector->began, ev_now(connector->loop), error);
	finish(connector, -1, error);
}

static void succeed(struct connector *connector, struct attempt *attempt)
{
	int fd = attempt->fd;

	/* Those had a start and have not answered. */
	for (size_t i = 0; i < attempt->address; i++)
		if (connector->attempts[i].fd >= 0)
			names_failed(connector->upstream->host, &connector->addresses.address[i]);
	ev_io_stop(connector->loop, &attempt->connected);
	attempt->fd = -1;
	connector->record->n_sockets--;
	backoff_succeeded(&connector->record->backoff);
	finish(connector, fd, 0);
}

/* ---------------------------------------------------------------- sockets */

static void set_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
	    {SOL_TCP, TCP_NODELAY, 1},
	    {SOL_SOCKET, SO_KEEPALIVE, 1},
	    {SOL_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE},
	    {SOL_TCP, TCP_KEEPINTVL, KEEPALIVE_BETWEEN},
	    {SOL_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

/* A non-blocking socket that connects to an address, or -errno. */
static int begin_connect(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (address->sa_family != AF_UNIX)
		set_options(fd);
	if (connect(fd, address, len) < 0 && errno != EINPROGRESS) {
		int error = -errno;

		fd_close(&fd);
		return error;
	}
	return fd;
}

static int connect_number(const struct connector *connector, size_t number)
{
	union address address = connector->addresses.address[number];
	struct sockaddr_un local = {.sun_family = AF_UNIX};

	if (is_unix(connector)) {
		strncpy(local.sun_path, connector->upstream->unix_socket, sizeof(local.sun_path) - 1);
		return begin_connect((const struct sockaddr *)&local, sizeof(local));
	}
	address_set_port(&address, connector->upstream->port);
	return begin_connect(&address.any, address_len(&address));
}

/* ---------------------------------------------------------------- one address after the other */

static void set_stagger(struct connector *connector, ev_tstamp seconds)
{
	ev_timer_stop(connector->loop, &connector->stagger);
	ev_timer_set(&connector->stagger, seconds, 0.);
	ev_timer_start(connector->loop, &connector->stagger);
}

static void address_failed(struct connector *connector, size_t address, int error)
{
	connector->error = error;
	if (!is_unix(connector))
		names_failed(connector->upstream->host, &connector->addresses.address[address]);
}

/* Begin with what is left until something is under way; the connector is gone when nothing is. */
static void try_next(struct connector *connector)
{
	ev_timer_stop(connector->loop, &connector->stagger);
	while (connector->next < connector->addresses.n) {
		struct attempt *attempt = &connector->attempts[connector->next];

		if (connector->record->n_sockets >= sockets_max) {
			set_stagger(connector, STAGGER);
			return;
		}
		int fd = connect_number(connector, connector->next);

		if (fd == -EAGAIN && is_unix(connector)) {
			set_stagger(connector, BACKLOG_PAUSE);
			return;
		}
		connector->next++;
		if (fd < 0) {
			address_failed(connector, attempt->address, fd);
			continue;
		}
		attempt->fd = fd;
		connector->n_connecting++;
		connector->record->n_sockets++;
		ev_io_set(&attempt->connected, fd, EV_WRITE);
		ev_io_start(connector->loop, &attempt->connected);
		if (connector->next < connector->addresses.n)
			set_stagger(connector, STAGGER);
		return;
	}
	if (connector->n_connecting == 0)
		fail(connector, connector->error, strerror(-connector->error));
}

static void on_connected(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct attempt *attempt = watcher->data;
	struct connector *connector = attempt->connector;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)loop;
	(void)events;
	if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0) {
		succeed(connector, attempt);
		return;
	}
	attempt_close(attempt);
	address_failed(connector, attempt->address, -error);
	try_next(connector);
}

static void on_stagger(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	try_next(watcher->data);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct connector *connector = watcher->data;
	bool resolved = connector->addresses.n > 0;

	(void)loop;
	(void)events;
	for (size_t i = 0; i < ADDRESSES_MAX; i++)
		if (connector->attempts[i].fd >= 0)
			address_failed(connector, i, -ETIMEDOUT);
	fail(connector, -ETIMEDOUT, resolved ? strerror(ETIMEDOUT) : "the name was not resolved in time");
}

/* ---------------------------------------------------------------- which addresses */

/* A name server's word does not lead into our own networks. */
static void leave_out_private(struct addresses *addresses)
{
	size_t n = 0;

	for (size_t i = 0; i < addresses->n; i++)
		if (address_is_public(&addresses->address[i]))
			addresses->address[n++] = addresses->address[i];
	addresses->n = n;
}

/* The families in turn, beginning with that of the first address: one of them may lead nowhere. */
static void interleave(struct addresses *addresses)
{
	for (size_t i = 1; i + 1 < addresses->n; i++) {
		union address *here = &addresses->address[i], other;
		sa_family_t before = here[-1].any.sa_family;
		size_t j = i;

		while (j < addresses->n && addresses->address[j].any.sa_family == before)
			j++;
		if (j == addresses->n)
			return;
		other = addresses->address[j];
		memmove(here + 1, here, (j - i) * sizeof(*here));
		*here = other;
	}
}

static void on_addresses(struct name_wait *wait, const struct addresses *addresses, const char *error)
{
	struct connector *connector = (struct connector *)((char *)wait - offsetof(struct connector, name));

	if (error != NULL) {
		fail(connector, -EHOSTUNREACH, error);
		return;
	}
	connector->addresses = *addresses;
	if (!addresses->configured && !connector->upstream->allow_private)
		leave_out_private(&connector->addresses);
	if (connector->addresses.n == 0) {
		fail(connector, -EACCES, "the name leads to private addresses only, see allow-private");
		return;
	}
	interleave(&connector->addresses);
	try_next(connector);
}

/* ---------------------------------------------------------------- the beginning */

static void on_start(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct connector *connector = watcher->data;
	int error = backoff_error(&connector->record->backoff, ev_now(loop));

	(void)events;
	if (error != 0) {
		finish(connector, -1, error);
	} else if (is_unix(connector)) {
		connector->addresses.n = 1;
		try_next(connector);
	} else {
		names_lookup(connector->upstream->host, &connector->name);
	}
}

struct connector *connector_start(struct ev_loop *loop, const struct config *config, size_t upstream,
                                  connector_done *done, void *data)
{
	struct connector *connector = calloc(1, sizeof(*connector));

	if (connector == NULL)
		return NULL;
	connector->loop = loop;
	connector->upstream = &config->upstreams[upstream];
	connector->record = &records[upstream];
	connector->done = done;
	connector->data = data;
	connector->error = -EHOSTUNREACH;
	connector->began = ev_now(loop);
	connector->name.done = on_addresses;
	list_init(&connector->name.node);
	for (size_t i = 0; i < ADDRESSES_MAX; i++) {
		struct attempt *attempt = &connector->attempts[i];

		*attempt = (struct attempt){.connector = connector, .address = i, .fd = -1};
		ev_init(&attempt->connected, on_connected);
		attempt->connected.data = attempt;
	}
	ev_init(&connector->stagger, on_stagger);
	ev_timer_init(&connector->deadline, on_deadline, connector->upstream->connect_timeout_ms / 1000., 0.);
	ev_timer_init(&connector->start, on_start, 0., 0.);
	connector->stagger.data = connector->deadline.data = connector->start.data = connector;
	ev_timer_start(loop, &connector->deadline);
	ev_timer_start(loop, &connector->start);
	return connector;
}

void connector_cancel(struct connector *connector)
{
	stop(connector);
}
