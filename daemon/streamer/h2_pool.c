/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2: the pool of connections, see h2.h. A connection is filled before the next one is used, so that what is not
 * needed any more falls idle. There is always room for some more streams than there are, on connections that are open
 * or on their way, as far as max-connections allows; what finds no room waits for it.
 */
#include "clock.h"
#include "daemon/common/metrics.h"
#include "h2.h"

#define TICK_S             1.0
#define IDLE_MS            60000 /* after which a connection is closed unless it is kept on stock */
#define SPARE_PAUSE_MIN_MS 1000  /* after a connection failed, until the next is made on stock */
#define SPARE_PAUSE_MAX_MS 60000

static size_t streams_each(const struct transport *transport)
{
	return transport->upstream->streams_per_connection;
}

void h2_pool_schedule(struct transport *transport)
{
	ev_feed_event(transport->streamer->loop, &transport->work, EV_CUSTOM);
}

/* ---------------------------------------------------------------- which connections there are */

static size_t room(const struct h2_connection *connection)
{
	return connection->n_streams < connection->capacity ? connection->capacity - connection->n_streams : 0;
}

void h2_pool_update(struct h2_connection *connection)
{
	struct transport *transport = connection->transport;
	size_t free_now = connection->state == H2_OPEN ? room(connection) : 0;

	if (free_now > 0 && connection->n_free == 0 && connection->n_streams > 0)
		TAILQ_INSERT_HEAD(&transport->available, connection, available);
	else if (free_now > 0 && connection->n_free == 0)
		TAILQ_INSERT_TAIL(&transport->available, connection, available);
	else if (free_now == 0 && connection->n_free > 0)
		TAILQ_REMOVE(&transport->available, connection, available);
	transport->n_free = transport->n_free - connection->n_free + free_now;
	connection->n_free = free_now;
	h2_pool_schedule(transport);
}

void h2_pool_enter(struct h2_connection *connection, enum h2_state state)
{
	struct transport *transport = connection->transport;

	if (connection->state < H2_OPEN && state >= H2_OPEN)
		transport->n_connecting--;
	if (connection->state == H2_DRAINING)
		transport->n_draining--;
	if (state == H2_DRAINING)
		transport->n_draining++;
	if (state == H2_OPEN) {
		connection->was_open = true;
		connection->since_ms = clock_ms();
		transport->spare_pause_ms = 0;
	}
	if (state == H2_BROKEN) {
		ev_io_stop(transport->streamer->loop, &connection->watcher);
		if (connection->is_unsent)
			TAILQ_REMOVE(&transport->unsent, connection, unsent);
		connection->is_unsent = false;
		TAILQ_INSERT_TAIL(&transport->broken, connection, broken);
	}
	connection->state = (uint8_t)state;
	h2_pool_update(connection);
}

static void add_connection(struct transport *transport, struct h2_connection *connection)
{
	LIST_INSERT_HEAD(&transport->connections, connection, all);
	transport->n_connections++;
	transport->n_connecting++;
	metrics_set(METRIC_UPSTREAM_CONNECTIONS, transport->n_connections);
}

static void remove_connection(struct h2_connection *connection)
{
	struct transport *transport = connection->transport;

	TAILQ_REMOVE(&transport->broken, connection, broken);
	LIST_REMOVE(connection, all);
	transport->n_connections--;
	metrics_set(METRIC_UPSTREAM_CONNECTIONS, transport->n_connections);
	h2_connection_free(connection);
}

/* Those that drain hold up nobody, but there are no more of them than of others. */
static bool may_connect(const struct transport *transport)
{
	size_t most = transport->upstream->max_connections;

	return transport->n_connections - transport->n_draining < most && transport->n_connections < 2 * most;
}

/* Connections for those that wait, and on stock. */
static void stock_up(struct transport *transport)
{
	const struct config_upstream *upstream = transport->upstream;
	size_t wanted = transport->n_waiting;
	size_t got = transport->n_free + transport->n_connecting * streams_each(transport);
	struct h2_connection *connection;

	if (clock_ms() >= transport->spare_after_ms && transport->streamer->dialer.channel.fd >= 0 &&
	    !transport->streamer->stopping)
		wanted += upstream->spare_connections * streams_each(transport);
	while (got < wanted && may_connect(transport)) {
		connection = h2_connection_new(transport);
		if (connection == NULL)
			return; /* tried again when something happens */
		add_connection(transport, connection);
		got += streams_each(transport);
	}
}

/* ---------------------------------------------------------------- what becomes of those that broke */

static void put_off_spares(struct transport *transport)
{
	int64_t pause_ms = transport->spare_pause_ms * 2;

	if (pause_ms < SPARE_PAUSE_MIN_MS)
		pause_ms = SPARE_PAUSE_MIN_MS;
	if (pause_ms > SPARE_PAUSE_MAX_MS)
		pause_ms = SPARE_PAUSE_MAX_MS;
	transport->spare_pause_ms = pause_ms;
	transport->spare_after_ms = clock_ms() + pause_ms;
}

/* It never opened: those fail that waited for it, the oldest, unless others on their way are enough for all. */
static void fail_waiting(struct transport *transport, enum transfer_error error)
{
	size_t coming = transport->n_connecting * streams_each(transport);
	size_t n = transport->n_waiting > coming ? transport->n_waiting - coming : 0;

	if (n > streams_each(transport))
		n = streams_each(transport);
	for (; n > 0; n--)
		transfer_fail(TAILQ_FIRST(&transport->waiting), error);
}

static void settle(struct transport *transport)
{
	struct h2_connection *connection;

	while ((connection = TAILQ_FIRST(&transport->broken)) != NULL) {
		if (!connection->was_open)
			fail_waiting(transport, (enum transfer_error)connection->error);
		if (!connection->was_open || connection->n_streams == 0)
			put_off_spares(transport);
		remove_connection(connection);
	}
	if (TAILQ_EMPTY(&transport->failed))
		return;
	transfers_settle(transport);
	/* Streams that ended now are seen to in this turn still. */
	ev_feed_event(transport->streamer->loop, &transport->streamer->after_batch, EV_PREPARE);
}

/* ---------------------------------------------------------------- once a turn */

static void serve(struct transport *transport)
{
	struct h2_connection *connection;
	struct transfer *transfer;

	while ((transfer = TAILQ_FIRST(&transport->waiting)) != NULL &&
	       (connection = TAILQ_FIRST(&transport->available)) != NULL) {
		transfer_begin(transfer, connection);
		h2_pool_update(connection);
	}
}

static void send_unsent(struct transport *transport)
{
	struct h2_connection *connection;

	while ((connection = TAILQ_FIRST(&transport->unsent)) != NULL) {
		TAILQ_REMOVE(&transport->unsent, connection, unsent);
		connection->is_unsent = false;
		h2_connection_send(connection);
	}
}

static void on_work(struct ev_loop *loop, ev_timer *watcher, int revents)
{
	struct transport *transport = watcher->data;

	(void)loop;
	(void)revents;
	settle(transport);
	serve(transport);
	stock_up(transport);
	send_unsent(transport);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct transport *transport = timer->data;
	struct h2_connection *connection;
	int64_t now_ms = clock_ms();
	size_t n_idle = 0;

	(void)loop;
	(void)revents;
	transfers_expire(transport, now_ms);
	LIST_FOREACH(connection, &transport->connections, all)
	{
		h2_connection_tick(connection, now_ms);
		if (connection->n_streams > 0)
			continue;
		if (connection->state == H2_DRAINING ||
		    (connection->state == H2_OPEN && ++n_idle > transport->upstream->spare_connections &&
		     now_ms - connection->since_ms > IDLE_MS))
			h2_connection_end(connection);
	}
	h2_pool_schedule(transport);
}

void h2_pool_init(struct transport *transport)
{
	LIST_INIT(&transport->connections);
	TAILQ_INIT(&transport->available);
	TAILQ_INIT(&transport->unsent);
	TAILQ_INIT(&transport->broken);
	ev_init(&transport->work, on_work);
	ev_set_priority(&transport->work, EV_MINPRI);
	ev_timer_init(&transport->tick, on_tick, 0.0, TICK_S);
	transport->work.data = transport->tick.data = transport;
	ev_timer_start(transport->streamer->loop, &transport->tick);
}
