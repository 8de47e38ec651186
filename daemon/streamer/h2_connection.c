/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2: one connection, see h2.h. Socket and TLS, what waits to be sent, and deadlines.
 *
 * What is to be sent is gathered over a turn of the event loop and written in as few pieces as possible. Memory for
 * output exists only while the socket does not take it.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "clock.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "h2.h"
#include "lib/fdpass.h"
#include "wiped_memory.h"

#define RECORD_MAX      16384 /* of TLS: what one read gives at most */
#define FRAME_MAX       (16384 + 64)
#define ROUNDS_MAX      8       /* of writing, before the other connections get their turn */
#define QUIET_BYTES_MAX 1048576 /* a second, besides what streams still get after their end */
#define PING_MS         30000   /* of silence, until the upstream is asked for a sign of life */
#define PONG_MS         10000   /* to give it */
#define BLOCKED_MS      20000   /* in which the upstream takes nothing */
#define USER_TIMEOUT_MS 20000   /* in which the kernel gets no acknowledgement */

static uint8_t input[RECORD_MAX];
static uint8_t output[RECORD_MAX + FRAME_MAX];

static void watch(struct h2_connection *connection, bool to_write)
{
	int events = EV_READ | (to_write || SSL_want_write(connection->ssl) ? EV_WRITE : 0);

	if (ev_is_active(&connection->watcher) && (connection->watcher.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(connection->transport->streamer->loop, &connection->watcher);
	ev_io_set(&connection->watcher, connection->watcher.fd, events);
	ev_io_start(connection->transport->streamer->loop, &connection->watcher);
}

/* ---------------------------------------------------------------- its end */

void h2_connection_break(struct h2_connection *connection, enum transfer_error error, const char *fault)
{
	struct transport *transport = connection->transport;

	if (connection->state == H2_BROKEN)
		return;
	if (fault != NULL)
		log_event(LOG_WARNING, "upstream-connection", LOG_STR("upstream", transport->upstream->name),
		          LOG_STR("error", fault), LOG_INT("streams", connection->n_streams));
	connection->error = (uint8_t)error;
	h2_pool_enter(connection, H2_BROKEN);
}

/* The peer closed it, as it may at any time; a failure only where it owes us answers. */
static void ended_by_peer(struct h2_connection *connection, const char *how)
{
	connection->peer_ended = true;
	h2_connection_break(connection, connection->state < H2_OPEN ? TRANSFER_UNREACHABLE : TRANSFER_BROKEN,
	                    connection->state < H2_OPEN || connection->n_streams > 0 ? how : NULL);
}

/* Whether the upstream cannot have begun with this request: it left without a word and soon after it, on a connection
 * that had served before, and so was about to leave anyway. */
static bool is_unseen(const struct h2_connection *connection, const struct transfer *transfer)
{
	return connection->peer_ended && connection->was_used && transfer->heard_at == connection->n_heard &&
	       clock_ms() - transfer->begun_ms < TRANSFER_CROSSED_MS;
}

void h2_connection_free(struct h2_connection *connection)
{
	struct transport *transport = connection->transport;
	struct transfer *transfer;
	int fd = connection->watcher.fd;

	while ((transfer = LIST_FIRST(&connection->transfers)) != NULL)
		transfer_fail(transfer, is_unseen(connection, transfer) ? TRANSFER_UNSEEN
		                                                        : (enum transfer_error)connection->error);
	dial_cancel(&transport->streamer->dialer, &connection->wait);
	ev_io_stop(transport->streamer->loop, &connection->watcher);
	if (connection->ssl != NULL)
		tls_end(connection->ssl, connection->peer_ended);
	nghttp2_session_del(connection->session);
	fd_close(&fd);
	wiped_free(connection->pending);
	free(connection);
}

void h2_connection_end(struct h2_connection *connection)
{
	h2_pool_enter(connection, H2_DRAINING);
	if (nghttp2_session_terminate_session(connection->session, NGHTTP2_NO_ERROR) != 0)
		h2_connection_break(connection, TRANSFER_NO_MEMORY, "no memory");
	h2_connection_unsent(connection);
}

/* ---------------------------------------------------------------- sending */

void h2_connection_unsent(struct h2_connection *connection)
{
	struct transport *transport = connection->transport;

	if (connection->is_unsent || connection->state == H2_BROKEN)
		return;
	connection->is_unsent = true;
	TAILQ_INSERT_TAIL(&transport->unsent, connection, unsent);
	h2_pool_schedule(transport);
}

/* 0, -EAGAIN or another -errno. */
static int send_pending(struct h2_connection *connection)
{
	while (connection->pending_len > 0) {
		ssize_t n = tls_write(connection->ssl, connection->pending + connection->pending_start,
		                      connection->pending_len);

		if (n <= 0)
			return n == 0 ? -ECONNRESET : (int)n;
		connection->pending_start += (uint32_t)n;
		connection->pending_len -= (uint32_t)n;
		connection->blocked_ms = clock_ms();
	}
	wiped_free(connection->pending);
	connection->pending = NULL;
	return 0;
}

/* Write this, and keep what the socket does not take. 0, -EAGAIN or another -errno. */
static int send_output(struct h2_connection *connection, size_t len)
{
	size_t sent = 0;
	ssize_t n = 1;

	while (sent < len && n > 0) {
		n = tls_write(connection->ssl, output + sent, len - sent);
		sent += n > 0 ? (size_t)n : 0;
	}
	if (sent == len)
		return 0;
	if (n != -EAGAIN)
		return n == 0 ? -ECONNRESET : (int)n;
	connection->pending = malloc(len - sent);
	if (connection->pending == NULL)
		return -ENOMEM;
	memcpy(connection->pending, output + sent, len - sent);
	connection->pending_start = 0;
	connection->pending_len = (uint32_t)(len - sent);
	connection->blocked_ms = clock_ms();
	return -EAGAIN;
}

/* nghttp2 keeps its buffer for as long as the connection lives, and does not look at what it has given out of it. The
 * buffer comes from wiped_memory.h and is not constant, whatever the pointer to it says. */
static void wipe_head(const uint8_t *frame, size_t len)
{
	union {
		const uint8_t *in;
		uint8_t *out;
	} pointer = {.in = frame};

	if (len >= H2_FRAME_HEADER && (frame[3] == NGHTTP2_HEADERS || frame[3] == NGHTTP2_CONTINUATION))
		explicit_bzero(pointer.out, len);
}

/* About a record's worth of what nghttp2 has to say, into output. Its length or -errno. */
static ssize_t gather(struct h2_connection *connection)
{
	size_t len = 0;

	while (len < RECORD_MAX) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(connection->session, &data);

		if (n < 0)
			return n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
		if (n == 0)
			break;
		if ((size_t)n > sizeof(output) - len)
			return -EPROTO;
		memcpy(output + len, data, (size_t)n);
		wipe_head(data, (size_t)n); /* the credential stands there */
		len += (size_t)n;
	}
	return (ssize_t)len;
}

void h2_connection_send(struct h2_connection *connection)
{
	ssize_t len = 1;
	int rc = send_pending(connection);

	for (int round = 0; rc == 0 && len > 0 && round < ROUNDS_MAX; round++) {
		len = gather(connection);
		rc = len < 0 ? (int)len : send_output(connection, (size_t)len);
		explicit_bzero(output, len > 0 ? (size_t)len : 0);
	}
	if (rc == -ECONNRESET)
		ended_by_peer(connection, "closed");
	else if (rc != 0 && rc != -EAGAIN)
		h2_connection_break(connection, rc == -ENOMEM ? TRANSFER_NO_MEMORY : TRANSFER_BROKEN, strerror(-rc));
	else if (!nghttp2_session_want_read(connection->session) && !nghttp2_session_want_write(connection->session))
		/* What there was to say about the end is said. */
		h2_connection_break(connection, TRANSFER_BROKEN, connection->fault);
	else
		watch(connection, rc == -EAGAIN || len > 0);
}

/* ---------------------------------------------------------------- receiving */

static bool is_too_quiet(const struct h2_connection *connection)
{
	return connection->quiet_bytes >
	       QUIET_BYTES_MAX + (int64_t)connection->transport->upstream->streams_per_connection * H2_STREAM_WINDOW;
}

/* Returns, however much comes: what brings no answer further is limited, and the windows for answers are opened only
 * when something is sent. */
static void receive(struct h2_connection *connection)
{
	ssize_t n, taken;

	do {
		n = tls_read(connection->ssl, input, sizeof(input));
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			ended_by_peer(connection, n == -EPROTO ? tls_fault(connection->ssl) : "closed");
			return;
		}
		connection->n_heard++;
		connection->heard_ms = clock_ms();
		connection->ping_ms = 0;
		connection->quiet_bytes += n;
		taken = nghttp2_session_mem_recv(connection->session, input, (size_t)n);
		if (taken == n && is_too_quiet(connection))
			connection->fault = "too many bytes that say nothing";
		else if (taken == n)
			continue;
		else if (connection->fault == NULL)
			connection->fault = nghttp2_strerror((int)taken);
		h2_connection_break(connection, TRANSFER_BROKEN, connection->fault);
		return;
	} while (SSL_has_pending(connection->ssl));
	if (nghttp2_session_want_write(connection->session) || !nghttp2_session_want_read(connection->session))
		h2_connection_unsent(connection);
}

static void shake_hands(struct h2_connection *connection)
{
	int rc = tls_client_handshake(connection->transport->tls, connection->ssl);

	if (rc == -EAGAIN)
		return;
	if (rc != 0) {
		h2_connection_break(connection, rc == -EPROTO ? TRANSFER_TLS : TRANSFER_UNREACHABLE,
		                    tls_fault(connection->ssl));
		return;
	}
	connection->session = h2_session_new(connection);
	if (connection->session == NULL) {
		h2_connection_break(connection, TRANSFER_NO_MEMORY, "no memory");
		return;
	}
	connection->state = H2_SETTINGS;
	h2_connection_unsent(connection);
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct h2_connection *connection = watcher->data;

	(void)loop;
	if (connection->state == H2_HANDSHAKE)
		shake_hands(connection);
	if (connection->state == H2_BROKEN)
		return;
	if (connection->session != NULL) {
		if (revents & EV_WRITE)
			h2_connection_unsent(connection);
		receive(connection); /* the handshake may have read it already */
	}
	if (connection->state != H2_BROKEN && !connection->is_unsent)
		watch(connection, connection->pending_len > 0);
}

/* ---------------------------------------------------------------- its begin */

static void on_dialled(struct dial_wait *wait, int fd)
{
	struct h2_connection *connection =
	    (struct h2_connection *)((char *)wait - offsetof(struct h2_connection, wait));
	int user_timeout_ms = USER_TIMEOUT_MS;

	if (fd < 0) {
		h2_connection_break(connection, fd == -ETIMEDOUT ? TRANSFER_TIMEOUT : TRANSFER_UNREACHABLE, NULL);
		return;
	}
	/* A unix socket has none. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
	ev_io_set(&connection->watcher, fd, EV_READ);
	connection->since_ms = clock_ms();
	connection->state = H2_HANDSHAKE;
	connection->ssl = tls_client_connect(connection->transport->tls, fd);
	if (connection->ssl == NULL) {
		h2_connection_break(connection, TRANSFER_NO_MEMORY, "no memory");
		return;
	}
	on_ready(connection->transport->streamer->loop, &connection->watcher, 0);
}

struct h2_connection *h2_connection_new(struct transport *transport)
{
	struct h2_connection *connection = calloc(1, sizeof(*connection));

	if (connection == NULL)
		return NULL;
	connection->transport = transport;
	connection->wait.done = on_dialled;
	ev_io_init(&connection->watcher, on_ready, -1, EV_READ);
	connection->watcher.data = connection;
	LIST_INIT(&connection->transfers);
	dial_start(&transport->streamer->dialer, &connection->wait);
	return connection;
}

/* ---------------------------------------------------------------- its deadlines */

static void tick_opening(struct h2_connection *connection, int64_t now_ms)
{
	if (now_ms - connection->since_ms > connection->transport->upstream->connect_timeout_ms)
		h2_connection_break(connection, TRANSFER_TIMEOUT,
		                    connection->state == H2_HANDSHAKE ? "no TLS in time" : "no HTTP/2 in time");
}

void h2_connection_tick(struct h2_connection *connection, int64_t now_ms)
{
	connection->quiet_frames = 0;
	connection->quiet_bytes = 0;
	if (connection->state == H2_DIALLING || connection->state == H2_BROKEN)
		return; /* dial.c has a deadline of its own */
	if (connection->state < H2_OPEN) {
		tick_opening(connection, now_ms);
	} else if (connection->pending_len > 0 && now_ms - connection->blocked_ms > BLOCKED_MS) {
		h2_connection_break(connection, TRANSFER_BROKEN, "takes nothing any more");
	} else if (connection->ping_ms != 0) {
		if (now_ms - connection->ping_ms > PONG_MS)
			h2_connection_break(connection, TRANSFER_BROKEN, "no answer to PING");
	} else if (now_ms - connection->heard_ms > PING_MS) {
		connection->ping_ms = now_ms;
		nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
		h2_connection_unsent(connection);
	}
}
